"""Experiment 3 on loads with known answers: who was busy, what overlapped, and what a guess is worth."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from matplotlib.text import Text

from tests.stubs.load import START, Rows, run_of
from workload.charts import canvas, pipeline, utilization
from workload.charts.drawing import Drawing
from workload.experiments import EXPERIMENTS
from workload.experiments.pipeline import PIPELINE, headline, reduce, verdicts
from workload.promql.pipeline import (
    BUSY_SECONDS,
    GPU_BUSY_SECONDS,
    PROCESS_CPU_SECONDS,
    REQUEST_SECONDS,
    REQUESTS_RUNNING,
)
from workload.record.results import evidence_of
from workload.services.prometheus import Series

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

    from workload.record.results import RunData

# What the server and the live counter say of one question of `tests.stubs.load`.
BUSY = {"retrieval_only": 0.08, "generation_only": 5.0, "both": 0.0, "neither": 0.003}
COUNTED = {BUSY_SECONDS: BUSY, REQUEST_SECONDS: {"": 4.98}}
# decompose, extract_clues, decide; again; generate
REPLIES = (
    '{"query": "the river of Varn today"}',
    '{"clues": ["Varn lies on the Oder", "the mayor of Varn"]}',
    '{"missing": "the mayor of Varn", "enough": "no"}',
    '{"query": "the mayor of Varn"}',
    '{"clues": []}',
    '{"missing": "", "enough": "yes"}',
    "Nobody",
)
QUERIES = ["the river of Varn today", "the mayor of Varn"]


def load_of(*starts: float, hops: int = 1) -> Rows:
    """Return a load of one question a worker, each beginning at its own time."""
    rows = Rows()
    for worker, start in enumerate(starts or (START,)):
        rows.ask(str(worker), start, hops)
    return rows


def recorded(tmp_path: Path, found: dict[str, set[str]]) -> RunData:
    """Return a run of two hops, recorded with its texts, on a store that finds what `found` says."""
    rows = Rows()
    rows.ask(hops=2, trajectory=json.dumps({"queries": QUERIES, "clues": []}))

    def retrieve(query: str) -> frozenset[str]:
        return frozenset(found.get(query, {"other"}))

    return run_of(rows, tmp_path, increases=COUNTED, retrieve=retrieve, replies=REPLIES)


def through_json(data: RunData) -> dict[str, Any]:
    """Return the summary as written."""
    return dict(json.loads(json.dumps(reduce(data), allow_nan=False)))


def reported(data: RunData) -> dict[str, Any]:
    """Return the summary's only load."""
    (load,) = through_json(data)["loads"]
    return dict(load)


def test_it_is_on_the_command_line_under_the_plan_s_names() -> None:
    """Users know the folder, the JSON and the defaults by these names."""
    assert EXPERIMENTS["pipeline"] is PIPELINE
    assert (PIPELINE.folder, PIPELINE.summary_file) == ("pipeline", "overlap_analysis.json")
    assert (PIPELINE.limit, PIPELINE.k, PIPELINE.max_hops) == (10, 10, 3)


def test_a_stage_has_its_own_time_and_no_other(tmp_path: Path) -> None:
    """The prototype credited a node's time to the one before: a 0.05 s retrieve was reported as 0.30 s."""
    load = reported(run_of(load_of(), tmp_path))
    assert load["stages"]["embed"]["median_seconds"] == pytest.approx(0.05)
    assert load["stages"]["search"]["seconds"] == pytest.approx(0.02)
    assert load["resources"]["retrieval"]["busy"]["seconds"] == pytest.approx(0.08)
    assert load["resources"]["engine"]["busy"]["seconds"] == pytest.approx(5.0)
    assert load["resources"]["engine"]["idle"]["share"] == pytest.approx(0.08 / 5.08)


def test_spans_agree_with_the_live_counter(tmp_path: Path) -> None:
    """Both time the same blocks of code by different means; what the dashboard draws must be what the report says."""
    data = run_of(load_of(), tmp_path, increases=COUNTED)
    assert reported(data)["busy_seconds_total"]["within_1_percent"] is True
    assert any("agrees with the spans within 1 %" in sentence for sentence in verdicts(through_json(data)))


@pytest.mark.parametrize(("activity", "seconds"), [("generation_only", 4.9), ("retrieval_only", 0.09), ("both", 0.02)])
def test_a_counter_that_is_off_is_not_waved_through(tmp_path: Path, activity: str, seconds: float) -> None:
    """A tolerance on the sum would hide a retrieval that is 12 % wrong behind a generation sixty times as long."""
    data = run_of(load_of(), tmp_path, increases={**COUNTED, BUSY_SECONDS: {**BUSY, activity: seconds}})
    assert reported(data)["busy_seconds_total"]["within_1_percent"] is False
    assert any("DISAGREES" in sentence for sentence in verdicts(through_json(data)))


def test_a_counter_that_was_not_scraped_is_no_agreement(tmp_path: Path) -> None:
    """Absent is not equal."""
    found = reported(run_of(load_of(), tmp_path))
    assert found["busy_seconds_total"] == {
        "spans": found["busy_seconds_total"]["spans"],
        "counter": None,
        "within_1_percent": None,
    }
    assert found["server"]["spans_to_server"]["within_3_points"] is None


def test_the_server_s_own_latencies_agree_and_its_gauge_alone_does_not(tmp_path: Path) -> None:
    """The gauge shows a call only from its first token on; taken for the truth it hides a quarter of the work."""
    load = reported(run_of(load_of(), tmp_path, increases=COUNTED))
    server, gauge = load["server"], load["gauge"]
    assert server["spans_to_server"] == {"points": pytest.approx(100 * 0.02 / 5.08), "within_3_points": True}
    assert server["counter_to_server"]["within_3_points"] is True
    assert 100 * (server["spans_busy_share"] - gauge["share"]) > 20
    assert gauge["to_spans"]["within_3_points"] is True
    assert gauge["share_outside_prefill"] == pytest.approx(gauge["spans_share_outside_prefill"], abs=0.03)
    assert gauge["resolution_seconds"] == pytest.approx(0.1)


def test_a_server_that_worked_less_than_the_client_waited_is_reported(tmp_path: Path) -> None:
    """Half a second of waiting that the server knows nothing of is the client's or the network's, not the engine's."""
    server = reported(run_of(load_of(), tmp_path, increases={**COUNTED, REQUEST_SECONDS: {"": 4.5}}))["server"]
    assert server["spans_to_server"]["within_3_points"] is False
    assert server["counter_to_server"]["within_3_points"] is False


def test_several_workers_are_compared_by_requests_in_flight(tmp_path: Path) -> None:
    """The sum of latencies of two workers exceeds the time there was; read as a busy share it would pass 100 %."""
    increases = {**COUNTED, REQUEST_SECONDS: {"": 9.96}}
    server = reported(run_of(load_of(START, START + 0.5), tmp_path, increases=increases))["server"]
    assert server["server_requests_in_flight"] > 1
    assert server["spans_to_server"]["within_3_points"] is True
    assert server["counter_to_server"] == {"points": None, "within_3_points": None}


def test_the_gauge_is_not_compared_where_calls_are_short(tmp_path: Path) -> None:
    """Scraped every 100 ms it cannot distinguish 300 ms from 400; agreement or not would be chance."""
    rows = load_of()
    for call in rows.calls:
        call["duration_seconds"], call["ttft_seconds"] = 0.3, 0.05
    assert reported(run_of(rows, tmp_path, increases=COUNTED))["gauge"]["to_spans"]["within_3_points"] is None


def test_embedding_during_generation_is_measured(tmp_path: Path) -> None:
    """Worker 1 embeds from 2.0 to 2.05 s while worker 0 generates until 4.08: all of it overlaps with generation."""
    load = reported(run_of(load_of(START, START + 1.0), tmp_path))
    assert load["stages"]["embed"]["beside_generation_seconds"] == pytest.approx(0.05 + 0.05)
    assert load["activities"]["both"] == pytest.approx(2 * 0.08 / load["seconds"])
    alone = reported(run_of(load_of(), tmp_path / "alone"))
    assert alone["stages"]["embed"]["beside_generation_seconds"] == 0


def test_a_question_s_steps_all_need_each_other(tmp_path: Path) -> None:
    """The prototype took min(LLM, retrieval) for savings; by what each step reads, none is shorter than serial."""
    path = reported(run_of(load_of(hops=2), tmp_path))["critical_path"]
    (question,) = path["questions"]
    assert question["critical_seconds"] == pytest.approx(question["serial_seconds"]) == pytest.approx(2 * 4.08 + 1)
    assert question["path"][:4] == ["decompose 1", "embed 1", "search 1", "rerank 1"]
    assert question["path"][-1] == "generate 2"


def test_without_texts_p_is_not_measured_and_never_assumed(tmp_path: Path) -> None:
    """With P = 1 taken for granted every figure of the prototype promised a saving."""
    data = run_of(load_of(hops=2), tmp_path, retrieve=lambda _: frozenset())
    prefetch = reported(data)["prefetch"]
    for source in prefetch["sources"].values():
        assert source["bound"] is None
        assert source["accuracy"].startswith("not measured")
    assert prefetch["sources"]["last clue"]["ceiling_seconds"] == pytest.approx(0.07)  # one hop of embed and search
    assert any("--record-prompts" in sentence for sentence in verdicts(through_json(data)))
    assert any(row[1] == "P not measured" for row in headline(through_json(data)))


def test_draft_accuracy_is_how_often_the_same_documents_come(tmp_path: Path) -> None:
    """Other words may find the same documents; the same words must, and half a query may not."""
    found = {"Who?": {"a"}, QUERIES[0]: {"a"}, QUERIES[1]: {"b"}, "the river": {"a", "x"}, "the mayor": {"b"}}
    sources = reported(recorded(tmp_path, found))["prefetch"]["sources"]
    counts = {name: (row["accuracy"]["right"], row["accuracy"]["hops"]) for name, row in sources.items()}
    assert counts == {"question": (1, 1), "last clue": (1, 1), "missing fact": (1, 1), "half the query": (1, 2)}
    texts = {name: row["same_text"]["right"] for name, row in sources.items()}
    assert texts == {"question": 0, "last clue": 1, "missing fact": 1, "half the query": 0}
    assert sources["half the query"]["documents_shared_mean"] == pytest.approx((1 + 1) / 2)
    # a clue is known a second before the query that it becomes, and saves all of embed and search
    assert sources["last clue"]["bound"]["measured"]["seconds"] == pytest.approx(0.07)
    assert sources["last clue"]["slack_seconds_median"] == pytest.approx(2.0)


def test_a_wrong_draft_costs_cpu_that_the_engine_needs(tmp_path: Path) -> None:
    """On a CPU engine a search in vain costs CPU time; with a GPU at work it takes no time from the engine."""
    data = recorded(tmp_path, {QUERIES[1]: {"b"}})
    costly = reported(data)["prefetch"]["sources"]["half the query"]
    assert (costly["accuracy"]["right"], costly["accuracy"]["hops"]) == (1, 2)
    assert costly["bound"]["measured"]["seconds"] == pytest.approx(0)  # one hop won, one hop's time lost
    evidence_of(data).client.grown = {**COUNTED, GPU_BUSY_SECONDS: {"0": 3.0}}  # type: ignore[attr-defined]
    free = reported(data)
    assert free["prefetch"]["sources"]["half the query"]["bound"]["measured"]["seconds"] == pytest.approx(0.07)
    assert free["resources"]["gpu"]["0"]["busy_seconds"] == 3.0


def test_a_store_that_does_not_repeat_itself_is_found_out(tmp_path: Path) -> None:
    """If the same query finds other documents the next time, a draft that differs shows nothing."""
    data = recorded(tmp_path, {})
    calls: list[str] = []

    def forgetful(query: str) -> frozenset[str]:
        calls.append(query)
        return frozenset({str(len(calls))})

    object.__setattr__(evidence_of(data), "retrieve", forgetful)
    assert reported(data)["prefetch"]["repeatable"] is False
    assert any("not reliable" in sentence for sentence in verdicts(through_json(data)))


@pytest.mark.parametrize("workers", [1, 2])
def test_the_pictures_say_what_was_and_was_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """A copied picture must stay honest without its page: no GPU, no P, and a gauge that is blind."""
    words: dict[str, str] = {}

    def keep(sheet: Figure, path: Path) -> Path:
        words[path.name] = " ".join(found.get_text() for found in sheet.findobj(Text) if isinstance(found, Text))
        return canvas.save(sheet, path)

    for module in (pipeline, utilization):
        monkeypatch.setattr(module, "save", keep)
    starts = [START + 0.7 * worker for worker in range(workers)]
    data = run_of(load_of(*starts), tmp_path, increases=COUNTED)
    evidence = evidence_of(data)
    drawing = Drawing(
        "x",
        ("base",),
        data,
        through_json(data),
        evidence.client,
        bundle=evidence.bundle,
        folder=tmp_path,
        footer="footer",
    )
    paths = pipeline.draw(drawing)
    assert [path.name for path in paths] == ["timeline_gantt.png", "resource_utilization.png"]
    assert all(path.stat().st_size > 10_000 for path in paths)
    assert "NO GPU WAS FOUND" in words["resource_utilization.png"]
    assert "P not measured" in words["resource_utilization.png"]
    assert "misses prefill" in words["resource_utilization.png"]
    assert f"worker {workers - 1}" in words["timeline_gantt.png"]
    assert "embed 50.0 ms" in words["timeline_gantt.png"]


def test_every_row_of_the_table_fits_its_columns(tmp_path: Path) -> None:
    """A row with a cell too few is refused by the table only at the end of a run."""
    for data in (run_of(load_of(), tmp_path / "plain"), recorded(tmp_path, {})):
        assert all(len(row) == len(PIPELINE.columns) for row in headline(through_json(data)))


def test_a_server_without_the_gauge_is_still_measured_by_spans(tmp_path: Path) -> None:
    """An attached server may show nothing; what the client timed itself does not depend on it."""
    empty = Series({}, np.empty(0), np.empty(0))
    data = run_of(load_of(), tmp_path, series={"vllm:num_requests_running": empty})
    load = reported(data)
    assert load["gauge"]["share"] is None
    assert load["server"]["spans_busy_share"] == pytest.approx(5 / 5.08)


def test_a_second_series_of_the_engine_is_part_of_it(tmp_path: Path) -> None:
    """The first of several would be taken for all of them: half of the cores, and half of what runs."""
    increases = {**COUNTED, PROCESS_CPU_SECONDS: {"engine": 2.0, "worker": 4.0}}
    rows = load_of()
    alone = run_of(rows, tmp_path / "one", increases=COUNTED)
    gauge = evidence_of(alone).stored(REQUESTS_RUNNING, alone.measured[0].window)[0]
    idle = Series({"engine": "0"}, gauge.times, np.zeros(len(gauge.times)))
    busy = Series({"engine": "1"}, gauge.times, gauge.values)
    two = run_of(rows, tmp_path / "two", increases=increases, series={REQUESTS_RUNNING: [idle, busy]})
    window = two.measured[0].window
    assert reported(two)["resources"]["engine_cpu_cores"] == pytest.approx(6.0 / (window.end - window.start))
    assert reported(two)["gauge"] == reported(alone)["gauge"]

"""Experiment 2 on loads with known answers: what moved, to whom it is credited, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from matplotlib.text import Text

from exporter.gpu.rawlog_files import HEADER
from tests.stubs.load import BLOCK_BYTES, COMPLETION_TOKENS, ENGINE_PID, PROMPT_TOKENS, START, Rows, run_of
from workload.charts import canvas, gpu_memory, memory_ranges
from workload.charts.drawing import Drawing
from workload.experiments import EXPERIMENTS
from workload.experiments.gpu_memory import GPU_MEMORY, headline, reduce, verdicts
from workload.record.results import evidence_of
from workload.services.prometheus import Series

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from workload.record.results import RunData

pytestmark = pytest.mark.usefixtures("laid_out")  # test_finish.py draws them

H200 = Path(__file__).parents[2] / "fixtures" / "h200" / "prefix_caching_on" / "nvml_10ms.csv"
RESIDENT = "hop2rag_host_process_resident_memory_bytes"


def one_question(hops: int = 1) -> Rows:
    """Return the load of one question."""
    rows = Rows()
    rows.ask(hops=hops)
    return rows


def with_gpu(data: RunData, lines: list[str], backend: str = "nvml") -> RunData:
    """Give a run a raw log, and a GPU that the exporter names."""
    evidence = evidence_of(data)
    folder = evidence.bundle.folder / "nvml"
    folder.mkdir()
    (folder / "nvml_20250131T235959_00.csv").write_text(HEADER + "".join(lines))
    labels = {"backend": backend, "name": "NVIDIA H200", "gpu": "0"}
    evidence.client.series["nvml_gpu_info"] = Series(labels, np.array([START]), np.array([1.0]))  # type: ignore[attr-defined]
    return data


def h200_lines() -> list[str]:
    """Return the recorded 10 ms trace as a raw log of this load's time."""
    recorded = [line.split(",") for line in H200.read_text().splitlines()[1:]]
    first = float(recorded[0][0])
    return [
        ",".join([str(round(1000 * (START - 0.5) + float(row[0]) - first)), "0", *row[1:]]) + "\n" for row in recorded
    ]


def through_json(data: RunData) -> dict[str, Any]:
    """Return the summary as written."""
    return dict(json.loads(json.dumps(reduce(data), allow_nan=False)))


def reported(data: RunData) -> dict[str, Any]:
    """Return the summary's only load."""
    (load,) = through_json(data)["loads"]
    return dict(load)


def pictures(data: RunData, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Draw a run and return every word of each picture by its file's name."""
    words: dict[str, str] = {}

    def keep(sheet: Figure, path: Path) -> Path:
        texts = [found.get_text() for found in sheet.findobj(Text) if isinstance(found, Text)]
        words[path.name] = " ".join(" ".join(texts).split())
        return canvas.save(sheet, path)

    for module in (gpu_memory, memory_ranges):
        monkeypatch.setattr(module, "save", keep)
    evidence = evidence_of(data)
    drawing = Drawing(
        "x",
        ("base",),
        data,
        through_json(data),
        evidence.client,
        bundle=evidence.bundle,
        folder=folder,
        footer="footer",
    )
    paths = gpu_memory.draw(drawing)
    assert [path.name for path in paths] == ["memory_timeline.png", "memory_by_node.png", "memory_phases.png"]
    return words


def test_it_is_on_the_command_line_under_the_plan_s_names() -> None:
    """Users know the folder, the JSON and the defaults by these names; `--sample-interval` is the GPU's."""
    found = EXPERIMENTS["gpu-memory"]
    assert found is GPU_MEMORY
    assert (GPU_MEMORY.folder, GPU_MEMORY.summary_file) == ("gpu_memory", "memory_analysis.json")
    assert (GPU_MEMORY.limit, GPU_MEMORY.k, GPU_MEMORY.max_hops, GPU_MEMORY.sampled) == (5, 10, 3, "gpu")


def test_the_kv_peak_has_its_value_time_node_and_hop(tmp_path: Path) -> None:
    """The question is where memory peaks; the longest prompts come last, so here it is `generate` of hop 2."""
    rows = one_question(hops=2)
    rows.calls[-1]["prompt_tokens"] = 10 * PROMPT_TOKENS
    peak = reported(run_of(rows, tmp_path))["kv"]["peak"]
    assert (peak["node"], peak["hop"], peak["question_id"]) == ("generate", 2, "q1")
    assert peak["value"] == 32 * BLOCK_BYTES  # 1019 tokens in blocks of 32
    assert 8.16 + 0.4 <= peak["seconds"] <= 9.16


def test_usage_is_over_the_pool_without_its_null_block(tmp_path: Path) -> None:
    """Usage times all 101 blocks would report 4.04 blocks for 4; every block in use must come out whole."""
    values = reported(run_of(one_question(), tmp_path))["kv"]
    assert values["max"] == 4 * BLOCK_BYTES
    assert values["max"] % BLOCK_BYTES == 0


def test_a_prefill_is_not_read_as_an_empty_pool(tmp_path: Path) -> None:
    """The gauge shows 0 until the first token: counted, a node with a long prefill would seem to use less."""
    data = run_of(one_question(), tmp_path)
    assert reported(data)["nodes"]["kv"]["extract_clues"]["min"] == 4 * BLOCK_BYTES
    gauge = evidence_of(data).client.raw("vllm:kv_cache_usage_perc{}", START + 1.1, START + 1.5)[0]
    assert not gauge.values.any()  # what the naive reading would have credited


def test_memory_is_credited_to_the_node_that_ran(tmp_path: Path) -> None:
    """A label that is set after the node ended credits the spike of `generate` to no node, or to `finalize`."""
    times = np.arange(START - 0.5, START + 6, 0.01)
    spike = (times >= START + 4.08) & (times < START + 5.08)
    lines = [f"{1000 * now:.0f},0,{2000 if high else 1000},0,0,0,0,0\n" for now, high in zip(times, spike, strict=True)]
    memory = reported(with_gpu(run_of(one_question(), tmp_path), lines))["nodes"]["gpu 0"]
    assert memory["generate"]["median"] == memory["generate"]["p5"] == 2000
    assert memory["decide"]["max"] == memory["decompose"]["max"] == 1000
    assert memory["retrieve"]["n"] == 7  # 70 ms at 10 ms


def test_two_workers_are_credited_to_no_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One value would be counted once for each worker; the picture itself must say that it is not attributed."""
    rows = Rows()
    rows.ask("0")
    rows.ask("1", start=START + 0.1)
    data = with_gpu(run_of(rows, tmp_path), h200_lines())
    load = reported(data)
    assert "not attributed" in load["nodes"]
    assert load["kv"]["peak"]["node"] is load["memory"]["gpu 0"]["peak"]["node"] is None
    assert load["fragmentation"]["n"] == 0
    assert "shared blocks count once" in load["fragmentation"]["why"]
    assert "not attributed to nodes" in pictures(data, tmp_path, monkeypatch)["memory_by_node.png"]


def test_each_gpu_has_its_own_values(tmp_path: Path) -> None:
    """Joined on time alone, the memory of two GPUs would be credited twice."""
    times = [START + step / 100 for step in range(600)]
    lines = [f"{1000 * now:.0f},{gpu},{1000 * (gpu + 1)},0,0,0,0,0\n" for now in times for gpu in (0, 1)]
    data = run_of(one_question(), tmp_path, pids_by_gpu={"0": [ENGINE_PID], "1": [ENGINE_PID]})
    nodes = reported(with_gpu(data, lines))["nodes"]
    assert (nodes["gpu 0"]["decide"]["max"], nodes["gpu 1"]["decide"]["max"]) == (1000, 2000)


def four_gpus() -> list[str]:
    """Return a raw log of four GPUs, each with as many thousands of bytes as its index."""
    times = [START + step / 100 for step in range(600)]
    return [f"{1000 * now:.0f},{gpu},{1000 * (gpu + 1)},0,0,0,0,0\n" for now in times for gpu in range(4)]


def test_the_gpu_that_served_is_the_one_that_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three idle cards are no part of the engine's memory, and the engine is not on card 0."""
    data = with_gpu(run_of(one_question(), tmp_path, pids_by_gpu={"0": [1], "3": [ENGINE_PID]}), four_gpus())
    load = reported(data)
    assert (list(load["memory"]), list(load["sampling"])) == (["gpu 3"], ["3"])
    assert load["memory"]["gpu 3"]["max"] == 4000
    words = pictures(data, tmp_path, monkeypatch)
    assert "GPU 3" in words["memory_timeline.png"]
    assert not any("GPU 0" in text for text in words.values())


def test_which_gpu_served_may_not_be_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of four cards is chosen by chance; the report then uses the engine's resident memory."""
    data = with_gpu(run_of(one_question(), tmp_path), four_gpus())
    assert reported(data)["sampling"] == {}
    assert reported(data)["backend"].startswith("GPU unknown: the exporter cannot tell which of GPUs 0, 1, 2, 3")
    assert any("GPU unknown" in sentence for sentence in verdicts(through_json(data)))
    assert all("GPU UNKNOWN" in text for text in pictures(data, tmp_path, monkeypatch).values())


def test_device_memory_under_vllm_is_flat_and_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the recorded H200 it takes four values; a peak that lasts is a plateau, which no node caused."""
    data = with_gpu(run_of(one_question(), tmp_path), h200_lines(), backend="replay")
    memory = reported(data)["memory"]["gpu 0"]
    assert memory["distinct"] <= 4
    assert memory["max"] / memory["min"] < 1.01
    words = pictures(data, tmp_path, monkeypatch)
    assert "% of the time" in words["memory_timeline.png"]
    assert "GiB in every node" in words["memory_by_node.png"]
    assert all("REPLAYED TRACE" in text for text in words.values())
    assert all("achieved " in text for text in words.values())


def test_the_true_refresh_period_of_utilisation_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A 10 ms line of a value that changes every 200 ms is fiction: a retrieval of 80 ms must show none."""
    data = with_gpu(run_of(one_question(), tmp_path), h200_lines())
    load = reported(data)
    assert load["utilization_refresh_seconds"]["0"] == pytest.approx(0.2, abs=0.01)
    assert load["phases"]["retrieval"]["gpu 0 utilization"] == {"stretches": 1, "long_enough": 0, "n": 0}
    assert load["phases"]["generation"]["gpu 0 utilization"]["n"] > 0
    assert "updated every 200 ms" in pictures(data, tmp_path, monkeypatch)["memory_phases.png"]


@pytest.mark.parametrize(
    ("gap_ms", "is_reported"), [(5, True), (8, False), (10, False), (12, False), (13, True), (100, True)]
)
def test_another_interval_than_asked_is_reported_and_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gap_ms: int, is_reported: bool
) -> None:
    """A figure that promises 10 ms and has 100 ms would hide every short peak; but the load is over, and is kept.

    It was an exception once: after hours of load there was no report, and `--resume` raised it again.
    """
    lines = [f"{1000 * START + gap_ms * step:.0f},0,1000,0,0,0,0,0\n" for step in range(6000 // gap_ms)]
    data = with_gpu(run_of(one_question(), tmp_path), lines)
    sentences = [sentence for sentence in verdicts(through_json(data)) if "NOT every 10 ms as requested" in sentence]
    assert len(sentences) == is_reported
    assert all(f"sampled every {gap_ms} ms" in sentence and "--sample-interval" in sentence for sentence in sentences)
    assert pictures(data, tmp_path, monkeypatch)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_samples_give_no_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """The GPU was lost at once, or the load took a moment."""
    lines = [f"{1000 * START + 10 * step:.0f},0,1000,0,0,0,0,0\n" for step in range(count)]
    data = with_gpu(run_of(one_question(), tmp_path), lines)
    assert reported(data)["sampling"] == {}
    assert verdicts(through_json(data))
    assert pictures(data, tmp_path, monkeypatch)


def test_without_a_gpu_the_engine_s_memory_stands_in_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prototype measured torch.cuda in the client, which is about 0 everywhere, and called it GPU memory."""
    times = np.arange(START - 1, START + 6, 1.0)
    resident = Series({}, times, np.full(len(times), 3.0 * 2**30))
    data = run_of(one_question(), tmp_path, series={RESIDENT: resident})
    load = reported(data)
    assert load["memory"]["engine process"]["median"] == 3 * 2**30
    assert (load["sampling"], load["gpu"]) == ({}, None)
    assert "No GPU" in load["backend"]
    assert any("No GPU" in sentence for sentence in verdicts(through_json(data)))
    assert all("NO GPU" in text for text in pictures(data, tmp_path, monkeypatch).values())


def test_phases_and_idle_are_shares_of_the_time_of_the_questions(tmp_path: Path) -> None:
    """The window begins and ends with a scrape; its still edges are no pauses of the agent's."""
    load = reported(run_of(one_question(), tmp_path))
    assert load["seconds"] == pytest.approx(5.08)
    assert load["phases"]["retrieval"]["seconds"] == pytest.approx(0.08)
    assert load["phases"]["generation"]["share"] == pytest.approx(5 / 5.08)
    assert load["engine_idle"]["share"] == pytest.approx(0.08 / 5.08)
    assert load["engine_idle"]["longest_seconds"] == pytest.approx(0.08)


def test_a_scrape_cannot_see_a_search(tmp_path: Path) -> None:
    """A gauge of 100 ms says nothing about 80 ms of retrieval, whatever value it happens to show."""
    assert reported(run_of(one_question(), tmp_path))["phases"]["retrieval"]["kv"]["n"] == 0


def test_kv_bytes_by_hop_are_what_the_tokens_need(tmp_path: Path) -> None:
    """119 tokens have entries at the end of a call, which is 4 blocks of 32; the gauge must not show more."""
    assert PROMPT_TOKENS + COMPLETION_TOKENS - 1 == 119
    data = run_of(one_question(hops=2), tmp_path)
    hops = reported(data)["kv_by_hop"]
    assert list(hops) == ["1", "2"]
    assert (hops["1"]["calls"], hops["2"]["calls"]) == (3, 4)
    for row in hops.values():
        assert row["from_usage"]["max"] == row["sampled"]["max"] == 4 * BLOCK_BYTES
    shown = [row for row in headline(through_json(data)) if row[0].startswith("KV cache of a call at hop")]
    assert [row[2].partition(",")[0].rpartition(" ")[2] for row in shown] == ["n=3", "n=4"]


def test_fragmentation_agrees_with_the_token_counts(tmp_path: Path) -> None:
    """Two ways to one number: blocks and tokens as the engine reported them, and the rounding up of token counts."""
    found = reported(run_of(one_question(hops=3), tmp_path))["fragmentation"]
    assert found["n"] > 50
    assert found["mean"] == pytest.approx(found["expected"], abs=0.01)
    assert 0 <= found["min"] <= found["max"] < 1
    assert any("internal only" in text for text in verdicts(through_json(run_of(one_question(), tmp_path))))


def test_every_row_of_the_table_fits_its_columns(tmp_path: Path) -> None:
    """A row with a cell too few is refused by the table only at the end of a run."""
    summary = through_json(run_of(one_question(), tmp_path))
    assert all(len(row) == len(GPU_MEMORY.columns) for row in headline(summary))
    assert any("generate" in row[2] or "decompose" in row[2] for row in headline(summary))

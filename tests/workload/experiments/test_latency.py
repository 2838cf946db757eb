"""Experiment 0 from rows to words and pictures."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.stubs.drawing import drawing_of
from tests.stubs.run import call, measured, question
from workload.experiments import EXPERIMENTS
from workload.experiments.latency import BASE, LATENCY, headline, reduce, verdicts
from workload.record.results import Row, RunData

if TYPE_CHECKING:
    from pathlib import Path

FILES = ("latency_by_node.png", "latency_distribution.png", "hops_by_question_type.png")


def visit(number: int, node: str, seconds: float) -> Row:
    """Return a visit of a node."""
    return {"question": number, "node": node, "hop": 1, "duration_seconds": seconds, "outcome": "ok"}


def run(answered: int) -> RunData:
    """Return a run in which every other question is a comparison of one hop, and one more question has failed."""
    questions: list[Row] = []
    for number in range(answered):
        hops = 1 + number % 2
        kind, ending = ("bridge", "comparison")[number % 2], ("enough", "max_hops")[number % 2]
        row = question(number, BASE.name, question_id=f"q{number}", type=kind, duration_seconds=2.0 * hops)
        questions.append(row | {"hops": hops, "termination": ending, "reason": None})
    failed = question(answered, BASE.name, question_id="bad", outcome="failed", duration_seconds=0.01)
    questions.append(failed | {"hops": 0, "termination": "error", "reason": "timeout"})
    visits = [
        visit(row["id"], node, share * row["duration_seconds"])
        for row in questions
        for node, share in (("decompose", 0.2), ("retrieve", 0.1), ("extract_clues", 0.6), ("initialize", 1e-6))
    ]
    calls = [call(row["id"], BASE.name, node="decide", hop=1) for row in questions]
    return RunData(measured=[measured(BASE.name)], questions=questions, calls=calls, visits=visits, stages=())


def summarise(data: RunData) -> dict[str, Any]:
    """Return the summary as a run completes it, having been through JSON."""
    return dict(json.loads(json.dumps(reduce(data), allow_nan=False)))


def test_the_summary_reports_all_that_experiment_1_asks() -> None:
    """By node, distribution, hops by type, what ended each loop and when, context by hop, quality with n."""
    summary = summarise(run(20))
    assert (summary["questions"], summary["answered"]) == (21, 20)
    assert list(summary["by_node"]) == ["initialize", "decompose", "retrieve", "extract_clues"]
    assert summary["by_node"]["extract_clues"]["share"] == pytest.approx(0.6)
    assert summary["hops_by_type"]["bridge"]["mean"] == 1.0
    assert summary["endings"]["error"]["reasons"] == {"timeout": 1}
    assert summary["endings"]["max_hops"]["seconds"]["median"] == 4.0
    assert summary["context_by_hop"]["decide"][0]["median"] == 100.0
    assert summary["quality"]["base"]["questions"] == 20


def test_words_are_of_the_numbers() -> None:
    """The failure is reported, the slowest node is named, and a percentile without an interval is marked."""
    summary = summarise(run(20))
    reported = "\n".join(verdicts(summary))
    for words in (
        "20 of 21 questions were answered",
        "extract_clues takes 60.0%",
        "error",
        "P95: no CI",
        "P99: not given",
    ):
        assert words in reported
    assert all(len(row) == len(LATENCY.columns) for row in headline(summary))
    assert ("Prompt tokens of decide by hop, median", "100", "21") in headline(summary)
    assert EXPERIMENTS["latency"] is LATENCY


def test_pictures_come_from_the_summary_and_leave_it_alone(tmp_path: Path) -> None:
    """`--no-figures` writes the same JSON, so drawing may add nothing to it."""
    data = run(20)
    summary = summarise(data)
    before = json.dumps(summary)
    paths = LATENCY.draw(drawing_of(LATENCY, data, summary, tmp_path))
    assert [path.name for path in paths] == list(FILES)
    assert all(path.stat().st_size > 20_000 for path in paths)
    assert json.dumps(summary) == before


@pytest.mark.parametrize("answers", [1, 3, 8, 19])
@pytest.mark.usefixtures("laid_out")
def test_a_percentile_that_few_answers_cannot_give_is_a_dash(tmp_path: Path, answers: int) -> None:
    """P95 and P99 of one, three or eight questions were printed and drawn: they were the slowest question."""
    data = run(answers)
    summary = summarise(data)
    assert [found["value"] is None for found in summary["latency_seconds"]] == [False, True, True]
    cells = {row[0]: row[1] for row in headline(summary)}
    assert (cells["Question, P95"], cells["Question, P99"]) == ("-", "-")
    assert f"P95, P99: not given, because {answers} answers are too few (P95 needs 20, P99 100)." in verdicts(summary)
    assert len(LATENCY.draw(drawing_of(LATENCY, data, summary, tmp_path))) == 3


@pytest.mark.usefixtures("laid_out")
def test_a_run_without_an_answer_is_reported_and_drawn(tmp_path: Path) -> None:
    """A dead engine fails every question; the run must end in words and empty pictures, not in a traceback."""
    data = run(0)
    summary = summarise(data)
    assert "0 of 1 questions were answered" in verdicts(summary)[0]
    assert headline(summary)
    assert len(LATENCY.draw(drawing_of(LATENCY, data, summary, tmp_path))) == 3

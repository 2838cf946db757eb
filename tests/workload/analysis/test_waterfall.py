"""Where a question's time went: the parts add up to it."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from tests.stubs.run import call, question
from workload.analysis.waterfall import NOT_TOLD, slowest, waterfalls
from workload.errors import UsageError
from workload.record.results import RunData
from workload.report.waterfall import find_questions, print_waterfall

if TYPE_CHECKING:
    from workload.record.results import Row


def visit(node: str, start: float, seconds: float) -> Row:
    """Return a visit of the first question."""
    return {"question": 1, "node": node, "hop": 1, "started_at": start, "duration_seconds": seconds, "outcome": "ok"}


def run(**times: float) -> RunData:
    """Return a run of a question that was due at 100.0 and sent 0.5 s later, and of a shorter one without nodes."""
    row = question(1, question_id="long", intended_at=100.0, started_at=100.5, duration_seconds=3.0) | times
    short = question(2, question_id="short", intended_at=100.0, started_at=100.0, duration_seconds=1.0)
    visits = [visit("retrieve", 100.5, 0.4), visit("decide", 101.0, 1.9), visit("wake", 101.2, 0.1)]
    stages = [{"question": 1, "stage": "embed", "hop": 1, "started_at": 100.6, "duration_seconds": 0.2}]
    calls = [call(1, started_at=101.1, duration_seconds=1.7, ttft_seconds=0.6)]
    return RunData(measured=(), questions=[short, row], calls=calls, visits=visits, stages=stages)


def test_the_parts_add_up_to_the_question() -> None:
    """A waterfall that misses a tenth of the time hides the cause exactly where it is looked for."""
    first, second = slowest(run())
    assert (first["question"], second["question"]) == ("long", "short")
    for found in (first, second):
        total = sum(part["seconds"] for part in found["parts"] if not part["inside"])
        assert total == pytest.approx(found["seconds"], rel=0.01)
    assert [(part["name"], part["inside"], round(part["seconds"], 3)) for part in first["parts"]] == [
        ("waits to be sent", False, 0.5),
        ("retrieve", False, 0.4),
        ("embed", True, 0.2),
        ("between nodes", False, 0.1),
        ("decide", False, 1.9),
        ("LLM call", True, 1.7),
        ("after the last node", False, 0.1),
    ]


def test_what_the_engine_does_not_tell_is_said() -> None:
    """Time to first token is queue and prefill together; to call all of it prefill would blame the prompt."""
    note = next(part["note"] for part in slowest(run())[0]["parts"] if part["name"] == "LLM call")
    assert note == "first token 0.600, decode 1.100"


def test_any_question_is_found_and_printed() -> None:
    """The slow one of a complaint is seldom among the three slowest."""
    data = run()
    console = Console(file=StringIO(), record=True, width=120)
    for found in waterfalls(data, find_questions(data, "short")):
        print_waterfall(console, found)
        print_waterfall(console, slowest(data)[0])
    printed = console.export_text()
    assert "short, prefix-on, 1 at a time: 1.000 s" in printed
    assert NOT_TOLD in printed
    with pytest.raises(UsageError, match="no question 'other'"):
        find_questions(data, "other")

"""The critical path is only as true as the needs it is made of."""

from __future__ import annotations

from typing import Any

import pytest

from workload.agent.state import NODES
from workload.analysis.dependencies import NEEDS, SPLIT_NODES, paths_of, question_path

QUESTION = {"id": 1, "question_id": "q", "duration_seconds": 10.0, "outcome": "ok"}


def rows(column: str, *found: tuple[str, int, float]) -> list[dict[str, Any]]:
    """Return visits or stages."""
    return [{"question": 1, column: name, "hop": hop, "duration_seconds": seconds} for name, hop, seconds in found]


def test_every_node_is_split_needed_or_at_the_start() -> None:
    """A node that the graph gains and this table lacks would float free, and shorten every path without a word."""
    known = set(NEEDS) | SPLIT_NODES | {"initialize"}
    assert set(NODES) <= known
    assert {need for needs in NEEDS.values() for need, _ in needs} <= set(NEEDS)


def test_a_loop_that_ends_by_done_needs_that_decision() -> None:
    """The last `decompose` found nothing left to ask; `generate` waits for it and the evidence before."""
    visits = rows(
        "node", ("decompose", 1, 1.0), ("accumulate", 1, 0.1), ("extract_clues", 1, 2.0), ("decide", 1, 1.0),
        ("decompose", 2, 1.5), ("generate", 2, 1.0),
    )  # fmt: skip
    path = question_path(QUESTION, visits, rows("stage", ("embed", 1, 0.2), ("search", 1, 0.1), ("rerank", 1, 0.05)))
    assert path["path"][-2:] == ["decompose 2", "generate 2"]
    assert path["critical_seconds"] == pytest.approx(path["serial_seconds"]) == pytest.approx(6.95)


def test_steps_that_do_not_need_each_other_are_not_added_up() -> None:
    """`finalize` reads the answer, not the supporting facts: the two could run at once."""
    visits = rows("node", ("generate", 1, 1.0), ("extract_supporting_facts", 1, 0.5), ("finalize", 1, 0.2))
    path = question_path(QUESTION, visits, [])
    assert (path["serial_seconds"], path["critical_seconds"]) == (pytest.approx(1.7), pytest.approx(1.5))


def test_questions_that_failed_have_no_path() -> None:
    """A chain that broke off would pass for a short one."""
    assert paths_of([{**QUESTION, "outcome": "failed"}], rows("node", ("decompose", 1, 1.0)), []) == []

"""A measured run as the analysis sees it, without an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workload.promql.vllm_metrics import COUNTERS, HITS, PREFILL_SECONDS, QUERIES
from workload.record.results import Measured, Row, RunData
from workload.record.window import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

ACCOUNTING = {"scheduled": 2, "sent": 2, "dropped": 0, "ok": 2, "failed": {}, "cancelled": 0}


def measured(
    arm: str = "prefix-on",
    *,
    caching: bool | None = True,
    block: int = 0,
    hits: float | None = None,
    queries: float | None = None,
    prefill_seconds: float | None = None,
) -> Measured:
    """Return a closed window; counters are absent by default."""
    reported = {HITS: hits, QUERIES: queries, PREFILL_SECONDS: prefill_seconds}
    window = Window(arm=arm, block=block, point="c1", segment=0, start=1000.0 + 100 * block, end=1060.0 + 100 * block)
    return Measured(window, {"prefix_caching": caching}, dict.fromkeys(COUNTERS) | reported, ACCOUNTING)


def question(number: int, arm: str = "prefix-on", *, question_id: str = "q", **parts: Any) -> Row:
    """Return a row of a question that was answered."""
    row = {
        "id": number,
        "arm": arm,
        "block": 0,
        "phase": "c1",
        "segment": 0,
        "is_windowed": True,
        "question_id": question_id,
        "type": "bridge",
        "outcome": "ok",
        "duration_seconds": 2.0,
        "digest": "same",
        "answer_em": 1.0,
        "answer_f1": 1.0,
        "facts_em": 0.0,
        "facts_f1": 0.5,
        "joint_f1": 0.5,
    }
    return row | parts


def call(number: int, arm: str = "prefix-on", **parts: Any) -> Row:
    """Return a row of a call of question `number` that ended well, alone at its time."""
    row = {
        "question": number,
        "arm": arm,
        "question_id": "q",
        "node": "decide",
        "hop": 1,
        "outcome": "ok",
        "started_at": 1000.0 + 10 * number,
        "duration_seconds": 1.0,
        "ttft_seconds": 0.5,
        "prompt_tokens": 100,
        "completion_tokens": 11,
        "cached_tokens": 64,
        "reusable_tokens": 64,
        "token_gaps": None,
        "is_windowed": True,
    }
    return row | parts


def run_of(windows: Sequence[Measured], calls: Sequence[Row] = (), questions: Sequence[Row] = ()) -> RunData:
    """Return a run."""
    return RunData(measured=windows, questions=questions, calls=calls, visits=(), stages=())

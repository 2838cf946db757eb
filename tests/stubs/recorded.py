"""A run on disk as its runner leaves it, with questions whose every figure is chosen."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from workload.promql.vllm_metrics import COUNTERS
from workload.record.bundle import Bundle
from workload.record.journal import Journal
from workload.record.results import Measured
from workload.record.window import Window
from workload.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SETTINGS = Settings.of({"limit": 3, "max_hops": 3, "k": 10})
ENGINE = {"version": "0.32.0", "model": "stub", "block_size": 16, "num_gpu_blocks": 100, "has_random_weights": True}
CORPUS = {"source": "synthetic"}


def record_run(
    results: Path,
    run: str,
    seconds: Mapping[str, float],
    *,
    arms: Sequence[str] = ("base",),
    corpus: Mapping[str, Any] = CORPUS,
    settings: Settings = SETTINGS,
    **call: Any,
) -> None:
    """Write a run of `latency` whose questions took `seconds` by id, in each arm, with a call of 10 tokens each.

    `call` changes columns of the calls.
    """
    bundle = Bundle(results, run)
    bundle.start("latency", settings.flat())
    bundle.note(corpus=dict(corpus), status="finished")
    measured = []
    with Journal(bundle.journal, settings.flat()) as journal:
        for block, arm in enumerate(arms):
            window = Window(arm=arm, block=block, point="c1", segment=0, start=1e9, end=1e9 + 1e5)
            measured.append(Measured(window, ENGINE, dict.fromkeys(COUNTERS), {"sent": len(seconds), "failed": {}}))
            for number, (question, took) in enumerate(seconds.items()):
                row_id, at = journal.new_id("question"), 1e9 + 100 * number
                place = {"id": row_id, "arm": arm, "block": block, "phase": "c1", "segment": 0, "attempt": 1}
                times = {"intended_at": at, "started_at": at, "duration_seconds": took, "outcome": "ok"}
                words = {"question_id": question, "type": "bridge", "worker": "0", "digest": "same", "hops": 1}
                journal.insert("question", {**place, **times, **words, "termination": "done"})
                made = {
                    "id": journal.new_id("llm_call"),
                    "question": row_id,
                    "node": "decide",
                    "hop": 1,
                    "started_at": at,
                }
                usage = {"prompt_tokens": 100, "cached_tokens": 64, "completion_tokens": 10, "finish_reason": "stop"}
                timed = {"started_at": at, "duration_seconds": took, "ttft_seconds": took / 2, "outcome": "ok"}
                journal.insert("llm_call", {**made, **usage, **timed, **call})
                gaps = array("I", [round(took / 18 * 1e6)] * 9).tobytes()
                journal.insert("token_gap", {"call": made["id"], "microseconds": gaps})
    bundle.note(measured=[part.as_dict() for part in measured])
    bundle.write_json("summary.json", {"experiment": "latency", "run": run})

"""Who else was busy in a load, and on which GPU: drafts, a warm-up, a call that was cut, a card that only idled."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.stubs.load import ENGINE_PID, START, run_of
from tests.workload.experiments.test_pipeline import BUSY, COUNTED, load_of, reported, through_json
from workload.experiments.pipeline import verdicts
from workload.promql.pipeline import BUSY_SECONDS, GPU_BUSY_SECONDS, REQUEST_SECONDS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("outcome", ["used", "wrong", "unneeded"])
def test_a_draft_is_busy_on_both_sides(tmp_path: Path, outcome: str) -> None:
    """A search for a draft writes no stage row, and runs during the call that writes the query: 0.2 s of both."""
    rows = load_of()
    counted = {**BUSY, "generation_only": BUSY["generation_only"] - 0.2, "both": 0.2}
    data = run_of(rows, tmp_path, increases={**COUNTED, BUSY_SECONDS: counted})
    draft = {**rows.stages[0], "outcome": outcome, "started_at": START + 0.5, "duration_seconds": 0.2}
    assert reported(replace(data, prefetches=[draft]))["busy_seconds_total"]["within_1_percent"] is True
    assert reported(data)["busy_seconds_total"]["within_1_percent"] is False


def test_a_warm_up_after_a_restart_is_busy_on_both_sides(tmp_path: Path) -> None:
    """It belongs to no question, and kept the engine busy while one was retrieving."""
    rows = load_of()
    warm_up = {**rows.calls[0], "question": 99, "started_at": START + 1.0, "duration_seconds": 0.05}
    counted = {**BUSY, "retrieval_only": BUSY["retrieval_only"] - 0.05, "both": 0.05}
    data = run_of(rows, tmp_path, increases={**COUNTED, BUSY_SECONDS: counted})
    assert reported(replace(data, uncounted=[warm_up]))["busy_seconds_total"]["within_1_percent"] is True


@pytest.mark.parametrize(("counted", "agrees"), [(4.98, None), (4.78, False), (5.48, True)])
def test_the_server_may_not_count_a_call_that_was_cut(tmp_path: Path, counted: float, agrees: bool | None) -> None:
    """Its latency counters cover requests that ended; half a second of a cut one is 10 points, and is no error."""
    rows = load_of()
    cut = {**rows.calls[0], "outcome": "failed", "started_at": START + 1.0, "duration_seconds": 0.5}
    data = run_of(rows, tmp_path, increases={**COUNTED, REQUEST_SECONDS: {"": counted}})
    rows.calls.append({**cut, "ttft_seconds": None, "prompt_tokens": None, "completion_tokens": None})
    load = reported(data)
    assert load["server"]["spans_to_server"]["within_3_points"] is agrees


@pytest.mark.parametrize(
    ("pids", "reported_of"),
    [({"0": [1], "3": [ENGINE_PID]}, {"3"}), ({"0": [ENGINE_PID], "3": [ENGINE_PID]}, {"0", "3"}), ({}, None)],
)
def test_the_gpu_that_served_is_the_one_reported(
    tmp_path: Path, pids: dict[str, list[int]], reported_of: set[str] | None
) -> None:
    """An idle card 0 next to a busy card 3 is not the engine's; where the card is unknown, none is named."""
    busy = {GPU_BUSY_SECONDS: {"0": 0.1, "3": 4.0}}
    data = run_of(load_of(), tmp_path, increases={**COUNTED, **busy}, pids_by_gpu=pids)
    gpu = reported(data)["resources"]["gpu"]
    assert gpu.keys() == reported_of if reported_of else gpu.startswith("GPU unknown")
    assert any("GPU unknown" in sentence for sentence in verdicts(through_json(data))) is (reported_of is None)

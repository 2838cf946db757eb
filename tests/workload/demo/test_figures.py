"""Which experiments of a recording can be drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workload.demo import figures
from workload.demo.recording import find_recordings
from workload.paths import asset

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_comparison_is_drawn_with_the_arms_of_its_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its arms come from the command line, so no list of experiments has them."""
    drawn: list[Any] = []
    monkeypatch.setattr(figures, "finish", lambda experiment, *rest: drawn.append((experiment, *rest)))
    (recording,) = find_recordings(asset("docs/results/h200-pressure"))
    unused: Any = None
    experiment, _ = figures.draw_run(recording, recording.runs[0], unused, tmp_path)
    (found,) = drawn
    assert experiment.name == "ab"
    assert [arm.name for arm in experiment.arms] == [part.window.arm for part in found[2]]
    assert found[3] == "recorded on one NVIDIA H200"

"""Memory by phase: what was never sampled takes no room."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from workload.charts import memory_ranges

if TYPE_CHECKING:
    from pathlib import Path

SEEN = {"n": 9, "min": 1.0, "median": 1.0, "max": 1.0, "p5": None, "p95": None}
UNSEEN = {"n": 0, "long_enough": 0}


@pytest.mark.parametrize(("duty", "panels"), [(SEEN, 1), (UNSEEN, 0)])
def test_a_quantity_without_a_sample_has_no_panel(
    duty: dict[str, Any], panels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All phases of a short run are shorter than the driver's period: the duty cycle was an empty panel from 0 to 1."""
    titles: list[str] = []
    monkeypatch.setattr(
        memory_ranges, "save", lambda sheet, _: titles.extend(axes.get_title("left") for axes in sheet.axes)
    )
    phase = {"seconds": 1.0, "share": 0.5, "count": 1, "longest_seconds": 1.0}
    summary: Any = {
        "phases": {name: {**phase, "kv": SEEN, "gpu 0 utilization": duty} for name in ("retrieval", "generation")},
        "engine_idle": phase,
        "seconds": 2.0,
        "sampling": {"0": {}},
        "backend": "nvml",
        "utilization_refresh_seconds": {"0": 0.2},
    }
    memory_ranges.draw_phases(summary, "", tmp_path / "memory_phases.png")
    assert sum("duty cycle" in title for title in titles) == panels
    assert len(titles) == 2 + panels

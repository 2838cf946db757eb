"""Marks of several arms at the same places."""

from __future__ import annotations

from collections import Counter

from matplotlib.figure import Figure

from workload.charts.marks import Mark, draw_marks


def test_a_note_that_arms_share_is_written_once() -> None:
    """Arms are asked as many questions at each level; the second of two equal notes lay on the axis."""
    axes = Figure().subplots()
    low = [Mark(1, 1.0, None, "n=8, no CI"), Mark(64, 12.0, (11.0, 13.0), "n=129")]
    high = [Mark(1, 1.1, None, "n=8, no CI"), Mark(64, 14.0, (13.0, 15.0), "n=125")]
    draw_marks(axes, [("low", low), ("high", high)])
    assert Counter(text.get_text() for text in axes.texts) == Counter(("n=8, no CI", "n=129", "n=125", "low", "high"))
    below = next(text for text in axes.texts if text.get_text() == "n=129")
    assert below.get_va() == "top"

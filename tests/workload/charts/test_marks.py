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


def test_what_is_near_the_axis_is_written_above_it() -> None:
    """The note of a low mark lay on the axis' own numbers, and the name of an arm without a queue crossed the axis."""
    axes = Figure().subplots()
    low = [Mark(1, 0.0, None, "n=44"), Mark(64, 0.0, None, "n=165")]
    high = [Mark(1, 0.1, None, "n=43"), Mark(64, 45.0, None, "n=173")]
    draw_marks(axes, [("low", low), ("high", high)])
    texts = {text.get_text(): text for text in axes.texts}
    assert set(texts) == {"n=43\nn=44", "n=173\nn=165", "low", "high"}
    assert {text.get_va() for text in texts.values()} == {"bottom"}

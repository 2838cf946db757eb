"""Figures: every arm is in the picture, one without data in words, and the file holds what its numbers say."""

from __future__ import annotations

from contextvars import copy_context
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from matplotlib import image
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from workload.charts.time_series import AXIS_LABELS, FOOTER_CHARS, binary_step, draw, further_formats, write
from workload.panels.colours import COLOURS
from workload.panels.data import Trace
from workload.panels.vllm_metrics import CACHE_METRICS, FIGURES, HIT_RATIO, REQUESTS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from workload.panels.panel import Figure, Panel

ARMS = ("prefix-off", "prefix-on")


def trace(arm: str, legend: str = "", values: Sequence[float] = (), block: int = 0) -> Trace:
    """Return a line with a value every second."""
    seconds = np.arange(len(values), dtype=np.float64)
    return Trace(arm, block, "c1", legend, "up", seconds=seconds, values=np.array(values, dtype=np.float64))


def traces_of(panel: Panel, silent: str = "") -> list[Trace]:
    """Return two blocks an arm and line; the arm `silent` has no points."""
    chance = np.random.default_rng(0)
    return [
        trace(arm, line.legend, () if arm == silent else chance.uniform(0.3, 0.7, 60).tolist(), block)
        for arm in ARMS
        for block in (0, 1)
        for line in panel.lines
    ]


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return every text that is put into the picture's axes."""
    written: list[str] = []
    plain = Axes.text

    def text(self: Axes, x: float, y: float, s: str, *args: Any, **more: Any) -> Any:
        written.append(s)
        return plain(self, x, y, s, *args, **more)

    monkeypatch.setattr(Axes, "text", text)
    return written


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.file)
def test_a_figure_is_drawn(figure: Figure, tmp_path: Path) -> None:
    """The file exists under the name that users know, in the expected size, with both arms' colours."""
    path = tmp_path / figure.file
    draw(figure, {panel.key: traces_of(panel) for panel in figure.panels}, ARMS, "run x; vLLM 0.32.0", path)
    pixels = (image.imread(path)[:, :, :3] * 255).astype(int)
    assert pixels.shape[1] == 1200
    assert pixels.shape[0] > 300 * len(figure.panels)
    for colour in COLOURS[: len(ARMS)]:
        wanted = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)])
        assert (abs(pixels - wanted).max(axis=2) < 12).sum() > 500


def test_an_arm_without_data_is_said_in_words(tmp_path: Path, texts: list[str]) -> None:
    """A line at zero, or no word at all, would each read as a hit rate of 0 %: the panel's own words say why."""
    traces = {panel.key: traces_of(panel) for panel in CACHE_METRICS.panels}
    traces[HIT_RATIO.key] = traces_of(HIT_RATIO, silent="prefix-off")
    draw(CACHE_METRICS, traces, ARMS, "", tmp_path / "figure.png")
    assert texts == ["prefix-off: no traffic, or caching off"]


def test_no_data_at_all_is_still_a_figure(tmp_path: Path, texts: list[str]) -> None:
    """Prometheus may have lost a run; the picture then says so for each arm instead of failing the report."""
    draw(CACHE_METRICS, {panel.key: [] for panel in CACHE_METRICS.panels}, ARMS, "", tmp_path / "figure.png")
    assert texts == [
        "prefix-off: no traffic, or caching off\nprefix-on: no traffic, or caching off",
        "prefix-off: no engine data\nprefix-on: no engine data",
    ]


def test_a_panel_that_the_axis_hides_is_a_sentence(
    tmp_path: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No preemption at all is good news; an empty panel with an axis from 0 to 0.08 reads as missing data."""
    footers: list[str] = []
    monkeypatch.setattr(Canvas, "supxlabel", lambda _, text, **__: footers.append(text))
    figure = FIGURES[2]
    traces = {panel.key: traces_of(panel) for panel in figure.panels}
    traces["preemptions"] = [trace(arm, "", [0.0, float("nan"), 0.0]) for arm in ARMS]
    draw(figure, traces, ARMS, "run x", tmp_path / "figure.png")
    assert footers == ["run x\n0 throughout: Preemptions, over 10 s"]
    assert texts == []
    traces["preemptions"] = [trace("prefix-on", "", [0.0]), trace("prefix-off")]
    draw(figure, traces, ARMS, "run x", tmp_path / "figure.png")
    assert texts == ["prefix-off: no data\notherwise 0 throughout"]
    assert footers[1] == "run x"


def test_each_load_has_a_picture_of_its_own_and_one_too_short_is_named(
    tmp_path: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fourteen lines on one axis are read by nobody, and a load that is left out without a word was not measured."""
    footers: list[str] = []
    monkeypatch.setattr(Canvas, "supxlabel", lambda _, text, **__: footers.append(text))
    traces = {
        panel.key: [
            replace(one, point=point)
            for point, values in (("c1", ()), ("c2", (0.5, 0.6)), ("c4", (0.7, 0.4)))
            for arm in ARMS
            for one in [trace(arm, panel.lines[0].legend, values if panel is HIT_RATIO else (0.1, 0.2))]
        ]
        for panel in CACHE_METRICS.panels
    }
    draw(CACHE_METRICS, traces, ARMS, "run x", tmp_path / "figure.png", title="The cache served half")
    assert texts == ["2 at a time", "4 at a time"] * 2
    assert footers == ["run x\nleft out, shorter than what a rate looks back over: 1 at a time"]


def test_gaps_are_not_bridged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NaN is where Prometheus had no point; a line across it would invent values."""
    drawn: list[Any] = []
    plain = Axes.plot

    def plot(self: Axes, *args: Any, **more: Any) -> Any:
        drawn.append(args[1])
        return plain(self, *args, **more)

    monkeypatch.setattr(Axes, "plot", plot)
    values = [0.5, float("nan"), 0.5]
    traces = {panel.key: [trace("prefix-on", panel.lines[0].legend, values)] for panel in CACHE_METRICS.panels}
    draw(CACHE_METRICS, traces, ARMS, "", tmp_path / "figure.png")
    assert all(np.isnan(line[1]) for line in drawn)


def test_a_picture_says_where_it_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are copied without their report; the footer is the part of it that goes along."""
    footers: list[str] = []
    monkeypatch.setattr(Canvas, "supxlabel", lambda _, text, **__: footers.append(text))
    draw(CACHE_METRICS, {panel.key: [] for panel in CACHE_METRICS.panels}, ARMS, "run x", tmp_path / "figure.png")
    assert footers == ["run x"]
    draw(
        CACHE_METRICS, {panel.key: [] for panel in CACHE_METRICS.panels}, ARMS, "a word " * 40, tmp_path / "figure.png"
    )
    assert max(map(len, footers[1].splitlines())) <= FOOTER_CHARS < len(footers[1])


def lightness(colour: str) -> float:
    """Return the relative luminance of sRGB, 0 black to 1 white (WCAG 2)."""
    shares = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return sum(part * weight for part, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))


def test_two_arms_differ_in_grey() -> None:
    """Most experiments have two arms, and papers are printed in grey: one must be twice as light as the other."""
    one, other = sorted(map(lightness, COLOURS[:2]))
    assert other > 2 * one
    assert len(set(COLOURS)) == len(COLOURS)


def test_an_axis_of_bytes_has_round_steps() -> None:
    """Ticks at 18.6, 37.3 and 55.9 GiB are decimal gigabytes in disguise."""
    assert [binary_step(top) for top in (0, 1, 140 * 2**30, 181 * 2**30, 2**20)] == [1, 1, 2**35, 2**35, 2**18]


def test_every_unit_has_an_axis_label() -> None:
    """A panel whose unit has no words fails when the run is over."""
    assert {panel.unit for figure in FIGURES for panel in figure.panels} <= AXIS_LABELS.keys()
    assert len(REQUESTS.lines) == 2


def test_a_figure_is_written_in_every_format_that_is_asked_for(tmp_path: Path) -> None:
    """A paper takes PDF and a page SVG; the report shows PNG whatever else is asked for."""
    canvas = Canvas(figsize=(1, 1))
    canvas.suptitle("What it shows")
    assert copy_context().run(_written, canvas, tmp_path / "figure.png", ("svg", "pdf")) == tmp_path / "figure.png"
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "What it shows" in (tmp_path / "figure.svg").read_text()
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")
    write(canvas, tmp_path / "next.png")
    assert not (tmp_path / "next.svg").exists()


def _written(canvas: Canvas, path: Path, kinds: tuple[str, ...]) -> Path:
    further_formats.set(kinds)
    return write(canvas, path)


@pytest.mark.usefixtures("texts")
def test_a_line_that_is_0_throughout_is_a_sentence_and_a_gauge_is_drawn_in_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A legend for a queue that was always empty sends the reader looking; slanted gauges show what nobody reported."""
    footers: list[str] = []
    drawn: list[str] = []
    monkeypatch.setattr(Canvas, "supxlabel", lambda _, text, **__: footers.append(text))
    plot = Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda *args, **more: (drawn.append(more["drawstyle"]), plot(*args, **more))[1])
    figure = FIGURES[2]
    traces = {panel.key: traces_of(panel) for panel in figure.panels}
    traces[REQUESTS.key] = [
        trace(arm, legend, values)
        for arm in ARMS
        for legend, values in (("running", [1, 0, 2]), ("waiting", [0, 0, 0]))
    ]
    draw(figure, traces, ARMS, "run x", tmp_path / "figure.png")
    assert footers == [f"run x\n0 throughout: {REQUESTS.title}, waiting"]
    assert drawn.count("steps-pre") == len(ARMS)
    assert drawn.count("default") == len(traces["preemptions"])

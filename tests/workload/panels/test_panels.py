"""What a panel shows: each window under its own labels, its own clock, and gaps where there is nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from tests.stubs.run import measured
from workload.panels.data import MAX_POINTS, MIN_STEP_SECONDS, fetch, step_of
from workload.panels.gpu_memory import UTILIZATION
from workload.panels.vllm_metrics import HIT_RATIO, PROMPT_TOKENS, QUESTIONS, REQUESTS
from workload.record.window import Window
from workload.services.prometheus import NoDataError, PrometheusClient, QueryError, Series

if TYPE_CHECKING:
    from collections.abc import Callable

    from workload.panels.panel import Panel

WINDOWS = [measured("prefix-off").window, measured("prefix-on", block=1).window]


class Prometheus:
    """Answers range queries from a function and notes what it was asked."""

    def __init__(self, answer: Callable[[str], list[Series]]) -> None:
        self.answer = answer
        self.asked: list[tuple[float, float, float]] = []

    def query_range(self, promql: str, start: float, end: float, step: float) -> list[Series]:
        """Answer a range query."""
        self.asked.append((start, end, step))
        return self.answer(promql)


def client_of(answer: Callable[[str], list[Series]]) -> Any:
    """Return a stand-in for the client."""
    return cast("PrometheusClient", Prometheus(answer))


def test_each_window_is_asked_for_under_its_own_labels() -> None:
    """Two starts of an arm share its name; only run, experiment, arm and time tell whose line it is."""

    def answer(promql: str) -> list[Series]:
        assert 'run="r"' in promql
        assert 'experiment="vllm-metrics"' in promql
        start = 1000.0 if 'arm="prefix-off"' in promql else 1100.0
        return [Series({}, np.array([start + 1, start + 2]), np.array([0.25, np.nan]))]

    client = client_of(answer)
    traces = fetch(REQUESTS, client, "r", "vllm-metrics", WINDOWS)
    places = [(trace.arm, trace.block, trace.legend) for trace in traces]
    assert places == [
        (arm, block, line) for arm, block in (("prefix-off", 0), ("prefix-on", 1)) for line in ("running", "waiting")
    ]
    assert all(trace.seconds.tolist() == [1, 2] for trace in traces)
    assert all(np.isnan(trace.values[1]) for trace in traces)
    assert all(window.start == start for window, (start, _, _) in zip(WINDOWS, client.asked[::2], strict=True))
    assert all(end >= window.end for window, (_, end, _) in zip(WINDOWS, client.asked[::2], strict=True))


@pytest.mark.parametrize("panel", [HIT_RATIO, PROMPT_TOKENS, REQUESTS, QUESTIONS], ids=lambda panel: panel.key)
def test_no_window_shows_the_one_before_it(panel: Panel) -> None:
    """A rate over ten seconds at the start of a level is the traffic of the level before it."""
    step = step_of(WINDOWS[0])
    seconds = np.arange(-20.0, 60.0, step)

    def answer(promql: str) -> list[Series]:
        start = 1000.0 if 'arm="prefix-off"' in promql else 1100.0
        return [Series({}, start + seconds, np.ones(seconds.size))]

    reach = panel.lines[0].query.reach_seconds(step)
    assert (
        reach
        == {"prefix_cache_hit_ratio": 10.0, "prompt_tokens": 4.0, "request_states": 0.4, "questions_answered": 1.0}[
            panel.key
        ]
    )
    for trace in fetch(panel, client_of(answer), "r", "vllm-metrics", WINDOWS):
        assert reach <= trace.seconds[0] < reach + step
        assert trace.seconds.size == trace.values.size


def test_a_total_begins_at_0_in_each_window() -> None:
    """The answers of seven levels are one counter: the last level's line began at 204."""

    def answer(_: str) -> list[Series]:
        return [Series({}, np.array([WINDOWS[0].start + 5.0, WINDOWS[0].start + 6.0]), np.array([204.0, 207.0]))]

    (found, *_) = fetch(QUESTIONS, client_of(answer), "r", "vllm-metrics", WINDOWS)
    assert found.values.tolist() == [0.0, 3.0]


def test_no_data_is_a_line_without_points() -> None:
    """With caching off there is no hit rate; the figure says so, and the CSV has no made-up zeros."""

    def answer(promql: str) -> list[Series]:
        raise NoDataError(promql, (1000.0, 1060.0))

    traces = fetch(HIT_RATIO, client_of(answer), "r", "vllm-metrics", WINDOWS)
    assert [(trace.arm, trace.seconds.size, trace.values.size) for trace in traces] == [
        ("prefix-off", 0, 0),
        ("prefix-on", 0, 0),
    ]
    assert all(trace.promql for trace in traces)


def test_a_refused_query_is_no_empty_panel() -> None:
    """Only "no data" may become an empty line; a syntax error or a dead Prometheus has to stop the drawing."""

    def answer(_: str) -> list[Series]:
        raise QueryError("Prometheus refused the query.")

    with pytest.raises(QueryError):
        fetch(HIT_RATIO, client_of(answer), "r", "vllm-metrics", WINDOWS)


@pytest.mark.parametrize("seconds", [0.5, 60.0, 3600.0, 86_400.0])
def test_a_window_has_as_many_points_as_a_figure_can_show(seconds: float) -> None:
    """A day at a quarter of a second would be 345,600 points of a picture 1,200 pixels wide."""
    step = step_of(Window(arm="prefix-on", block=0, point="c1", segment=0, start=100.0, end=100.0 + seconds))
    assert step >= MIN_STEP_SECONDS
    assert seconds / step <= MAX_POINTS * 1.01


class TwoGpus:
    """A Prometheus that knows a series for each of two GPUs."""

    def query_range(self, _: str, start: float, end: float, __: float) -> list[Series]:
        """Return GPU 0, which idles, before GPU 3."""
        times = np.array([start + 1, end])
        return [Series({"gpu": gpu}, times, np.full(2, value)) for gpu, value in (("0", 0.0), ("3", 9.0))]


def test_every_series_of_a_line_is_a_trace_of_its_own() -> None:
    """The first one alone drew the idle GPU 0 of an engine on GPU 3, under no name at all."""
    window = Window(arm="base", block=0, point="c1", segment=0, start=1000.0, end=1010.0)
    traces = fetch(UTILIZATION, cast("PrometheusClient", TwoGpus()), "run", "gpu-memory", [window])
    assert [(trace.legend, trace.values.tolist()) for trace in traces] == [
        ("GPU 0", [0.0, 0.0]),
        ("GPU 3", [9.0, 9.0]),
    ]
    (line,) = UTILIZATION.lines
    assert [line.has(legend) for legend in ("GPU 3", "GPU 1:3", "decide, GPU 3", "")] == [True, True, False, False]

"""The memory of a call: a gauge of another engine, or of another moment, belongs to another call."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from tests.stubs.run import call, measured, run_of
from workload.analysis.memory_of_calls import during, memory_of_calls
from workload.analysis.time_series import TimeSeries
from workload.promql.concurrency import PREEMPTIONS, WAITING_CALLS
from workload.promql.gpu_memory import KV_USAGE_NAMES, RESIDENT
from workload.services.prometheus import Series

if TYPE_CHECKING:
    from workload.analysis.memory_of_calls import CallMemory
    from workload.record.evidence import Evidence
    from workload.record.results import Measured
    from workload.record.window import Window

BLOCKS = 101


class Stored:
    """Stored samples, by metric."""

    def __init__(self, **lines: list[Series]) -> None:
        self.lines = {name.replace("__", ":"): series for name, series in lines.items()}

    def stored(self, metric: str, _: Window, **__: str) -> list[Series]:
        """Return the samples of a metric."""
        return self.lines.get(metric, [])

    def gpu_samples(self, _: Measured) -> dict[str, Any]:
        """Return nothing: there is no GPU."""
        return {}


def line(values: dict[float, float]) -> list[Series]:
    """Return one series, its instants in seconds after the window's start."""
    return [Series({}, 1000.0 + np.array(list(values)), np.array(list(values.values())))]


def seen(lines: dict[str, list[Series]], **parts: Any) -> list[CallMemory]:
    """Return what was seen of a call from 10 s to 14 s of its window, with its first token after 2 s."""
    window = measured("sweep")
    window = replace(window, engine={"num_gpu_blocks": BLOCKS})
    timed = call(0, "sweep", started_at=1010.0, duration_seconds=4.0, ttft_seconds=2.0, completion_tokens=32)
    row = timed | {"block": 0, "phase": "c1", "segment": 0} | parts
    stored = Stored(**{name.replace(":", "__"): series for name, series in lines.items()})
    return memory_of_calls(replace(run_of([window], [row]), evidence=cast("Evidence", stored)), "sweep")


def test_blocks_are_counted_while_the_call_decodes() -> None:
    """Before its first token the gauge shows a part of it, or still a longer call that has just ended."""
    usage = {9.9: 0.9, 10.1: 0.9, 11.0: 0.2, 12.5: 0.51, 13.5: 0.52, 14.5: 0.9}
    (found,) = seen({KV_USAGE_NAMES[0]: line(usage)})
    assert found.blocks == 52
    assert found.kv_use is not None
    assert found.kv_use.tokens == 100 + 32 - 1


def test_an_older_name_of_the_gauge_is_known_too() -> None:
    """Up to 0.9.1 the gauge carried the GPU in its name; absent would read as never seen."""
    (found,) = seen({KV_USAGE_NAMES[1]: line({12.5: 0.1})})
    assert found.blocks == 10


def test_what_was_not_seen_is_unknown() -> None:
    """A call between two scrapes used some memory; zero would pull the slope down."""
    (found,) = seen({KV_USAGE_NAMES[0]: line({9.0: 0.5, 15.0: 0.5})})
    assert found.blocks is None
    assert found.kv_use is None
    assert found.memory_bytes is None


def test_several_engines_are_credited_to_none() -> None:
    """Each has a pool of its own, and the call was in one of them."""
    (found,) = seen({KV_USAGE_NAMES[0]: line({12.5: 0.1}) + line({12.5: 0.1})})
    assert found.blocks is None


def test_without_a_gpu_the_engines_memory_is_its_own() -> None:
    """The peak while the call ran."""
    (found,) = seen({RESIDENT: line({9.0: 9e9, 11.0: 1e9, 13.0: 2e9})})
    assert found.memory_bytes == 2e9


@pytest.mark.parametrize(
    ("waiting", "is_queued"),
    [({10.1: 1, 11.0: 0, 12.0: 0, 13.0: 0}, False), ({10.1: 1, 11.0: 2, 12.0: 1, 13.0: 0}, True), ({}, False)],
)
def test_a_call_queued_if_it_waited_most_of_its_time(waiting: dict[float, float], is_queued: bool) -> None:
    """Every call waits for the next step of the engine; a scrape that meets it there is no wall."""
    assert seen({WAITING_CALLS: line(waiting)})[0].is_queued is is_queued


@pytest.mark.parametrize(
    ("counter", "is_preempted"),
    [({5.0: 3, 15.0: 3}, False), ({5.0: 3, 12.0: 4, 15.0: 4}, True), ({5.0: 2, 9.0: 3, 15.0: 3}, False), ({}, False)],
)
def test_a_preemption_belongs_to_the_call_that_ran(counter: dict[float, float], is_preempted: bool) -> None:
    """The counter before the call and after it; one that rose earlier was somebody else's."""
    assert seen({PREEMPTIONS: line(counter)})[0].is_preempted is is_preempted


def test_a_call_outside_every_closed_window_is_left_out() -> None:
    """Of an interrupted segment no series was awaited, so its last samples may be missing."""
    assert seen({}, segment=1) == []
    assert memory_of_calls(run_of([measured("sweep")], [call(0, "sweep")]), "sweep") == []  # and without Prometheus


def test_a_gauge_is_read_while_the_call_decodes() -> None:
    """At a call's start the gauge may still show the one before; during prefill blocks come chunk by chunk."""
    line = TimeSeries(np.array([99.0, 100.5, 101.5, 102.5, 103.5]), np.array([9.0, 8.0, 50.0, 51.0, 0.0]))
    one = call(0, started_at=100.0, ttft_seconds=1.0, duration_seconds=3.0)
    assert during(one, line).tolist() == [8.0, 50.0, 51.0]
    assert during(one, line, decoding=True).tolist() == [50.0, 51.0]

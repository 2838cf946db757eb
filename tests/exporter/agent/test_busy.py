"""Busy seconds: four activities that add up to the wall time of a load, whatever overlaps."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from exporter.agent.busy import ACTIVITIES, BusySeconds


class SteppedClock:
    """Whole seconds that a test advances by hand, so that sums are exact."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time now."""
        return self.now


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["start", "end", "scrape"]), st.sampled_from(["retrieval", "generation"]), st.integers(0, 9)
    )
)


@given(STEPS)
def test_activities_add_up_to_the_wall_time(
    steps: list[tuple[str, Literal["retrieval", "generation"], int]],
) -> None:
    """A second counted twice or not at all would make the overlap of a pipeline anything one likes."""
    clock = SteppedClock()
    busy = BusySeconds(clock)
    running: dict[str, list[ExitStack]] = {"retrieval": [], "generation": []}
    expected = dict.fromkeys(ACTIVITIES, 0.0)
    with busy.accounting():
        for action, resource, seconds in steps:
            if action == "start":
                block = ExitStack()
                block.enter_context(busy.busy(resource))
                running[resource].append(block)
            elif action == "end" and running[resource]:
                running[resource].pop().close()
            elif action == "scrape":
                busy.seconds()
            clock.now += seconds
            name = {(1, 0): "retrieval_only", (0, 1): "generation_only", (1, 1): "both", (0, 0): "neither"}
            expected[name[bool(running["retrieval"]), bool(running["generation"])]] += seconds
    assert busy.seconds() == expected
    assert sum(expected.values()) == clock.now


def test_time_outside_of_the_load_is_not_counted() -> None:
    """Otherwise warm-up and settling would count as idle seconds of the load."""
    clock = SteppedClock()
    busy = BusySeconds(clock)
    with busy.busy("generation"):
        clock.now += 5
        with busy.accounting():
            clock.now += 2
        clock.now += 5
    assert busy.seconds() == {**dict.fromkeys(ACTIVITIES, 0.0), "generation_only": 2.0}


def test_a_long_call_shows_while_it_lasts() -> None:
    """Credited only at its end, a minute of generation would be a spike in one scrape and idle before it."""
    clock = SteppedClock()
    busy = BusySeconds(clock)
    registry = CollectorRegistry()
    registry.register(busy)
    with busy.accounting(), busy.busy("generation"):
        for second in (1.0, 2.0):
            clock.now = second
            labels = {"activity": "generation_only"}
            assert registry.get_sample_value("hop2rag_busy_seconds_total", labels) == second


def test_a_failure_ends_its_block() -> None:
    """A resource left busy by an exception would stay busy for the rest of the run."""
    clock = SteppedClock()
    busy = BusySeconds(clock)
    with busy.accounting():
        with pytest.raises(RuntimeError), busy.busy("retrieval"):
            raise RuntimeError
        clock.now += 1
    assert busy.seconds()["neither"] == 1.0

"""Prefetching is meant to raise overlap, so a wrong method must not credit it."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from graphlib import CycleError
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.agent.busy import BusySeconds
from workload.analysis.overlap import (
    GENERATION,
    RETRIEVAL,
    Span,
    activities,
    busy_seconds,
    busy_union,
    critical_path,
    serial_seconds,
)

instants = st.integers(0, 400).map(lambda quarter: quarter / 4)
spans = st.builds(
    lambda resource, edges: Span(resource, *sorted(edges)),
    st.sampled_from([RETRIEVAL, GENERATION]),
    st.tuples(instants, instants),
)


@given(st.lists(spans, max_size=25))
def test_spans_and_the_live_counter_agree(found: list[Span]) -> None:
    """The report compares both within 1 %, so on equal events they must be equal, overlaps and nesting included."""
    now = 0.0
    busy = BusySeconds(lambda: now)
    running: dict[int, AbstractContextManager[None]] = {}
    events = sorted([(s.end, 1, i) for i, s in enumerate(found)] + [(s.start, 0, i) for i, s in enumerate(found)])
    with ExitStack() as stack:
        stack.enter_context(busy.accounting())
        for instant, is_end, index in events:
            now = instant
            if is_end:
                running.pop(index).__exit__(None, None, None)
            else:
                resource = found[index].resource
                running[index] = busy.busy(RETRIEVAL if resource == RETRIEVAL else GENERATION)
                running[index].__enter__()
        now = 100.0
        counted = busy.seconds()
    ours = activities(found, (0.0, 100.0))
    assert ours == pytest.approx(counted)


@given(st.lists(spans, max_size=25), instants, instants)
def test_activities_add_up_to_any_window(found: list[Span], one: float, other: float) -> None:
    """Spans that reach over the window's edges must not bring time of their own."""
    window = (min(one, other), max(one, other))
    parts = activities(found, window)
    assert sum(parts.values()) == pytest.approx(window[1] - window[0])
    assert min(parts.values()) >= -1e-9


@given(st.lists(spans, max_size=25))
def test_a_union_is_in_order_and_apart(found: list[Span]) -> None:
    """The Gantt's busy lane draws these stretches; touching or nested ones would draw a resource twice."""
    united = busy_union(found, (0.0, 100.0))
    assert all(end < start for (_, end), (start, _) in pairwise(united))
    assert all(any(s.start < end and start < s.end for s in found) for start, end in united)


def test_a_planted_overlap_is_returned() -> None:
    """Retrieval 0-4 and generation 3-9 in a window of 10: the four parts are known."""
    found = [Span(RETRIEVAL, 0, 4), Span(GENERATION, 3, 9), Span(GENERATION, 5, 6)]
    parts = activities(found, (0, 10))
    assert parts == {"retrieval_only": 3, "generation_only": 5, "both": 1, "neither": 1}
    assert busy_seconds(found, (0, 10)) == {RETRIEVAL: 4, GENERATION: 6}
    assert serial_seconds(found) == 11


def test_event_times_would_credit_a_node_with_the_one_before() -> None:
    """The trap: timing a node from the arrival of the event before it reports a retrieval of 0.05 s as 0.30 s."""
    call, retrieve = Span(GENERATION, 0.0, 1.0), Span(RETRIEVAL, 1.25, 1.30)
    between_events = retrieve.end - call.end
    assert between_events == pytest.approx(0.30)
    assert busy_seconds([call, retrieve], (0, 2))[RETRIEVAL] == pytest.approx(0.05)
    assert activities([call, retrieve], (0, 2))["neither"] == pytest.approx(0.95)


def test_the_critical_path_follows_needs_and_not_order() -> None:
    """Two chains that share no data could run side by side, whatever the order they ran in."""
    seconds = {"decompose": 2.0, "search": 1.0, "generate": 3.0, "log": 4.5}
    found = critical_path(seconds, {"search": ["decompose"], "generate": ["search", "decompose"]})
    assert found.tasks == ("decompose", "search", "generate")
    assert found.seconds == 6.0
    assert found.seconds < sum(seconds.values())


@given(st.lists(st.floats(0, 10), min_size=1, max_size=12), st.data())
def test_the_critical_path_lies_between_the_longest_task_and_all(durations: list[float], data: st.DataObject) -> None:
    """Whatever the needs, it is a real chain of them, no shorter than any task and no longer than all."""
    seconds = {str(index): value for index, value in enumerate(durations)}
    needs = {
        str(index): [str(need) for need in data.draw(st.sets(st.integers(0, index - 1)))]
        for index in range(1, len(durations))
    }
    found = critical_path(seconds, needs)
    assert max(durations) <= found.seconds <= sum(durations) + 1e-9
    assert sum(seconds[task] for task in found.tasks) == pytest.approx(found.seconds)
    assert all(before in needs[after] for before, after in pairwise(found.tasks))


def test_needs_in_a_circle_are_refused() -> None:
    """A loop over hops drawn as one node needing itself has no path; the caller unrolls it by hop."""
    with pytest.raises(CycleError):
        critical_path({"a": 1, "b": 1}, {"a": ["b"], "b": ["a"]})
    assert critical_path({}, {}).tasks == ()

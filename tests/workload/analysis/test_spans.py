"""Spans carry the real start and end; what is made of them must neither invent nor lose time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stubs.load import START, Rows, run_of
from workload.analysis.overlap import Span, busy_union
from workload.analysis.spans import active_at, describe, lies_in, measured_loads, pauses, shared_seconds

instants = st.integers(0, 400).map(lambda quarter: quarter / 4)
spans = st.lists(st.builds(lambda edges: Span("x", *sorted(edges)), st.tuples(instants, instants)), max_size=15)


@given(spans)
def test_busy_and_pauses_make_up_the_window(found: list[Span]) -> None:
    """Idle time is stated as a share; busy and idle together must be all the time there was."""
    busy = busy_union(found, (0, 100))
    idle = pauses(busy, (0, 100))
    assert sum(end - start for start, end in [*busy, *idle]) == pytest.approx(100)
    assert all(end > start for start, end in idle)


@given(spans, spans)
def test_shared_time_is_symmetric_and_never_more_than_either(one: list[Span], other: list[Span]) -> None:
    """Counted by pairs of spans, two that overlap each other would share more than the time there was."""
    window = (10.0, 90.0)
    shared = shared_seconds(one, other, window)
    assert shared == pytest.approx(shared_seconds(other, one, window))
    for each in (one, other):
        assert shared <= sum(end - start for start, end in busy_union(each, window)) + 1e-9


def test_a_stretch_holds_its_start_and_not_its_end() -> None:
    """Two visits that touch would otherwise both be credited with the sample between them."""
    times = np.array([0.0, 1.0, 2.0, 3.0])
    assert lies_in(times, [(1, 2), (2, 3)]).tolist() == [False, True, True, False]
    visit = {"started_at": 1.0, "duration_seconds": 1.0}
    assert active_at(1.0, [visit]) is visit
    assert active_at(2.0, [visit]) is None


def test_a_load_lasts_from_the_first_question_to_the_last_answer(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The window waits for scrapes at both ends; shares of the window would include seconds without a question."""
    rows = Rows()
    rows.ask("0")
    rows.ask("10", start=START + 1)
    rows.ask("2", start=START + 2)
    (load,) = measured_loads(run_of(rows, tmp_path_factory.mktemp("run")))
    assert load.interval == (START, pytest.approx(START + 7.08))
    assert load.window.start < load.interval[0]
    assert load.workers == ("0", "2", "10")


def test_a_question_that_was_interrupted_has_no_end_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Its duration is not known; counted as 0 it would end the load at its start."""
    rows = Rows()
    rows.ask()
    data = run_of(rows, tmp_path_factory.mktemp("run"))
    rows.questions.append({**rows.questions[0], "id": 2, "intended_at": START + 3, "duration_seconds": None})
    assert measured_loads(data)[0].interval[1] == pytest.approx(START + 5.08)


def test_stretches_are_described_even_where_there_are_none() -> None:
    """A run that never paused has a longest pause of nothing, not an error."""
    assert describe([], 10.0) == {"count": 0, "seconds": 0, "share": 0.0, "longest_seconds": 0.0}

"""Node activity on the timeline: every edge, one heartbeat a second, never out of order."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from exporter.timeline import NODE_ACTIVE, OTHER, LabelSet, NodeActivity


class FakeClock:
    """A wall clock in milliseconds that a test sets."""

    def __init__(self, now_ms: int = 1_000_500) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        """Return the time now."""
        return self.now_ms


def parse(exposition: bytes) -> dict[str, list[tuple[int, int]]]:
    """Return series -> [(timestamp in ms, value), ...] in the order sent."""
    series: dict[str, list[tuple[int, int]]] = {}
    for line in exposition.decode().splitlines():
        if not line.startswith("#"):
            name, value, timestamp = line.rsplit(" ", 2)
            series.setdefault(name, []).append((int(timestamp), int(value)))
    return series


def series_of(worker: str, node: str) -> str:
    """Return the series name of one worker in one node."""
    return f'{NODE_ACTIVE}{{worker="{worker}",node="{node}"}}'


def test_edges_carry_their_own_time() -> None:
    """A node shorter than any scrape interval must still be seen, at the right millisecond."""
    clock = FakeClock()
    activity = NodeActivity(clock)
    activity.enter("w0", "retrieve")
    clock.now_ms += 20
    activity.leave("w0", "retrieve")
    clock.now_ms += 100
    assert parse(activity.expose()) == {series_of("w0", "retrieve"): [(1_000_500, 1), (1_000_520, 0)]}


def test_a_long_visit_is_repeated_every_whole_second() -> None:
    """A query over the last two seconds must find a node that was entered a minute ago."""
    clock = FakeClock()
    activity = NodeActivity(clock)
    activity.enter("w0", "generate")
    clock.now_ms += 60_000
    assert parse(activity.expose()) == {
        series_of("w0", "generate"): [(t, 1) for t in (1_058_000, 1_059_000, 1_060_000)]
    }


def test_a_repeated_scrape_sends_the_same_samples() -> None:
    """Prometheus stores a sample once only if what is sent again is identical, heartbeats included."""
    clock = FakeClock()
    activity = NodeActivity(clock)
    activity.enter("w0", "decide")
    clock.now_ms += 1_700
    first = set(parse(activity.expose())[series_of("w0", "decide")])
    clock.now_ms += 900
    assert first < set(parse(activity.expose())[series_of("w0", "decide")])


def test_a_pair_idle_for_a_window_is_forgotten() -> None:
    """Memory and the size of a scrape follow what is active, not everything that ever was."""
    clock = FakeClock()
    activity = NodeActivity(clock)
    activity.enter("w0", "decide")
    activity.leave("w0", "decide")
    clock.now_ms += 3_100
    assert parse(activity.expose()) == {}
    assert activity._visits == {}


def test_a_leave_without_an_enter_is_no_sample() -> None:
    """A stray leave must not invent an edge."""
    activity = NodeActivity(FakeClock())
    activity.leave("w0", "decide")
    assert parse(activity.expose()) == {}


def test_the_same_pair_inside_twice_is_active_until_both_left() -> None:
    """Workers that share a label must not switch each other off."""
    clock = FakeClock()
    activity = NodeActivity(clock)
    activity.enter("w0", "search")
    activity.enter("w0", "search")
    clock.now_ms += 10
    activity.leave("w0", "search")
    clock.now_ms += 10
    activity.leave("w0", "search")
    assert parse(activity.expose())[series_of("w0", "search")] == [(1_000_500, 1), (1_000_520, 0)]


def test_a_clock_set_back_starts_anew() -> None:
    """After an hour's step back, edges must carry the new time instead of creeping on from the old one."""
    clock = FakeClock(5_000_000)
    activity = NodeActivity(clock)
    activity.enter("w0", "decide")
    clock.now_ms = 1_400_000
    activity.leave("w0", "decide")
    assert parse(activity.expose())[series_of("w0", "decide")] == [(1_400_000, 0)]


@given(st.lists(st.tuples(st.integers(0, 1_500), st.booleans(), st.sampled_from(["a", "b"])), max_size=60))
def test_timestamps_ascend_within_a_series(steps: list[tuple[int, bool, str]]) -> None:
    """Prometheus drops a sample that does not come after the one before it, so the whole record depends on order."""
    clock = FakeClock()
    activity = NodeActivity(clock)
    for pause_ms, enters, node in steps:
        clock.now_ms += pause_ms
        (activity.enter if enters else activity.leave)("w0", node)
        for samples in parse(activity.expose()).values():
            assert all(before < after for (before, _), (after, _) in pairwise(samples))
            assert {value for _, value in samples} <= {0, 1}


def test_row_05_hostile_names_keep_the_series_count_flat() -> None:
    """Fault row 5: labels from outside must not grow the exposition, break its lines or carry a megabyte."""
    activity = NodeActivity(FakeClock(), max_workers=8, max_nodes=4)
    hostile = ["a\nb 1", "nul\0", "😀", "x" * 1_000_000, 'q"uote', "\ud800", *(f"n{i}" for i in range(10_000))]
    for name in hostile:
        activity.enter(name, name)
    exposition = activity.expose()
    assert len(parse(exposition)) <= (8 + 1) * (4 + 1)
    assert series_of("other", "other") in parse(exposition)
    assert len(exposition) < 8_000


def test_64_workers_fit_a_scrape() -> None:
    """64 workers that move twice per second must stay within 1,000 lines; benchmarks/scrape.py measures their cost."""
    clock = FakeClock()
    activity = NodeActivity(clock)
    nodes = [f"node{i}" for i in range(11)]
    for step in range(20):
        for worker in range(64):
            activity.enter(f"w{worker}", nodes[(step + worker) % 11])
        clock.now_ms += 450
        for worker in range(64):
            activity.leave(f"w{worker}", nodes[(step + worker) % 11])
        clock.now_ms += 50
    assert 600 <= activity.expose().count(b"\n") <= 1_000


def test_known_values_are_kept_and_overflow_is_other() -> None:
    """Fault row 5: the 10,000th name must not become the 10,000th series."""
    labels = LabelSet(3, known=("decide",))
    assert [labels.admit(value) for value in ("decide", "a", "b", "c", "a")] == ["decide", "a", "b", OTHER, "a"]


@given(st.lists(st.text(), max_size=50))
def test_what_is_admitted_is_plain_and_bounded(values: list[str]) -> None:
    """Whatever comes in, a label is short ASCII without quotes or line ends, so an exposition cannot be forged."""
    labels = LabelSet(5)
    admitted = {labels.admit(value) for value in values}
    assert len(admitted) <= 6
    assert all(value.isascii() and value.isprintable() and '"' not in value for value in admitted)

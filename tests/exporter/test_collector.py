"""Isolation: a broken collector costs its own series and nothing else."""

from __future__ import annotations

from threading import Event, Thread
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily

from exporter.collector import Collectors
from exporter.timed_call import TimedCall
from exporter.web.pages import encode_text, negotiate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exporter.collector import Collector


class Working:
    """Exposes one fact."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield it."""
        yield GaugeMetricFamily("fine", "Fine.", 1.0)


class Broken:
    """Exposes half of its families, then raises."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield a family, then raise."""
        yield GaugeMetricFamily("half", "Half.", 1.0)
        raise RuntimeError("secret text of an exception")


def scrape(collectors: Collectors) -> str:
    """Return the exposition of these collectors."""
    registry = CollectorRegistry()
    registry.register(collectors)
    return generate_latest(registry).decode()


def test_a_broken_collector_lowers_its_success_and_the_scrape_answers() -> None:
    """An exporter that fails a scrape because of one sensor hides all the others, just when they matter."""
    text = scrape(Collectors({"broken": Broken(), "working": Working()}))
    assert 'hop2rag_exporter_collector_success{collector="broken"} 0.0' in text
    assert 'hop2rag_exporter_collector_success{collector="working"} 1.0' in text
    assert 'hop2rag_exporter_collector_duration_seconds{collector="broken"}' in text
    assert "fine 1.0" in text


class Odd:
    """Yields one valid family and one invalid."""

    def __init__(self, value: Any = 1.0, label: Any = "x", more: tuple[Any, ...] = ()) -> None:
        self._value, self._label, self._more = value, label, more

    def collect(self) -> Iterator[Any]:
        """Yield two families and something else."""
        odd = GaugeMetricFamily("odd", "Odd.", labels=["label"])
        odd.add_metric([self._label], self._value)
        yield odd
        yield GaugeMetricFamily("sound", "Sound.", 1.0)
        yield from self._more


class Twice:
    """Exposes one series twice, like a driver that lists a process twice."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield two families."""
        family = GaugeMetricFamily("odd", "Odd.", labels=["label"])
        family.add_metric(["x"], 1.0)
        family.add_metric(["x"], 2.0)
        yield from (family, GaugeMetricFamily("sound", "Sound.", 1.0))


ODD: list[Collector] = [
    *map(Odd, (None, "x", 10**400, 1j, [])),
    *(Odd(label=label) for label in (None, 5, "\ud800", b"x")),
    Twice(),
]


@pytest.mark.parametrize("encode", [encode_text, generate_latest, negotiate("application/openmetrics-text")[0]])
@pytest.mark.parametrize("collector", [*ODD, Odd(more=(5, "x", None))])
def test_a_family_that_cannot_be_shown_costs_itself(collector: Collector, encode: Callable[..., bytes]) -> None:
    """A value or a label is rendered after all collectors have ended: there it would cost the whole page."""
    registry = CollectorRegistry()
    registry.register(Collectors({"odd": collector, "working": Working()}))
    lines = encode(registry).decode().splitlines()
    assert 'hop2rag_exporter_collector_success{collector="odd"} 0.0' in lines
    assert {"fine 1.0", "sound 1.0"} <= {*lines}
    assert any(line.startswith("odd{") for line in lines) is (collector not in ODD)


class Hanging:
    """Answers when it is let go."""

    def __init__(self) -> None:
        self.go, self.asked = Event(), 0

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Wait, then yield."""
        self.asked += 1
        self.go.wait()
        yield GaugeMetricFamily("late", "Late.", 1.0)


def test_row_25_a_hanging_collector_costs_its_own_series(caplog: pytest.LogCaptureFixture) -> None:
    """A network file system whose server is gone never answers; it took /metrics, the timeline and the exit with it."""
    hanging = Hanging()
    collectors = Collectors({"hanging": hanging, "working": Working()}, seconds=0.2)
    for _ in range(5):
        text = scrape(collectors)
        assert 'hop2rag_exporter_collector_success{collector="hanging"} 0.0' in text
        assert 'hop2rag_exporter_collector_success{collector="working"} 1.0' in text
        assert "fine 1.0" in text
        assert "late" not in text
    assert hanging.asked == 1  # never two that are stuck in the same place
    assert [record.getMessage() for record in caplog.records] == [
        "Collector hanging did not answer within 0.2 s; its series are missing."
    ]
    hanging.go.set()
    collectors._calls["hanging"].begin().answer.result(30)
    collectors = Collectors({"hanging": hanging}, seconds=30)
    assert "late 1.0" in scrape(collectors)


def test_a_collector_that_hangs_already_is_not_waited_for() -> None:
    """Each scrape would take the whole deadline, and two at a time the next one's."""
    now, hanging = [0.0], Hanging()
    call = TimedCall(lambda: list(hanging.collect()), 3600, "test", lambda: now[0])
    pending = call.begin()
    now[0] += 3601
    with pytest.raises(TimeoutError):
        call.begin().wait()  # at once: an hour is longer than any test
    assert call.begin() is pending
    hanging.go.set()


def test_scrapes_at_the_same_time_share_a_collection() -> None:
    """Two Prometheus servers must not make two threads walk the same thousand processes."""
    hanging = Hanging()
    call = TimedCall(lambda: list(hanging.collect()), 30, "test")
    first, second = call.begin(), call.begin()
    hanging.go.set()
    assert first.wait() is second.wait()
    assert hanging.asked == 1


def test_the_time_of_a_collector_is_its_own() -> None:
    """The one that is waited for first must not show in the times of the others."""
    now, hanging = [0.0], Hanging()

    def clock() -> float:
        return now[0]

    quick, slow = TimedCall(lambda: 1, 30, "quick", clock), TimedCall(hanging.go.wait, 30, "slow", clock)
    asked = slow.begin(), quick.begin()
    asked[1].wait()
    now[0] += 5
    hanging.go.set()
    asked[0].wait()
    assert [pending.age for pending in asked] == [5, 0]


@pytest.mark.parametrize(
    "error", [SystemExit(1), KeyboardInterrupt(), MemoryError(), RecursionError(), OSError(24, "x")]
)
def test_whatever_a_collector_raises_the_scrape_is_answered(error: BaseException) -> None:
    """A library that exits, or a host that is out of memory or descriptors, must not blind everything."""

    class Raising:
        def collect(self) -> Iterator[GaugeMetricFamily]:
            raise error

    text = scrape(Collectors({"raising": Raising(), "working": Working()}))
    assert 'hop2rag_exporter_collector_success{collector="raising"} 0.0' in text
    assert "fine 1.0" in text


def test_a_host_without_threads_is_no_reason_to_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other programs on the host may use up the limit on processes."""
    monkeypatch.setattr(Thread, "start", Mock(side_effect=RuntimeError("can't start new thread")))
    assert 'hop2rag_exporter_collector_success{collector="working"} 0.0' in scrape(Collectors({"working": Working()}))


def test_half_an_answer_is_not_served() -> None:
    """Series that come and go with an exception's position would look like data."""
    text = scrape(Collectors({"broken": Broken()}))
    assert "half" not in text
    assert "secret" not in text


def test_a_failure_is_logged_once_until_it_is_mended(caplog: pytest.LogCaptureFixture) -> None:
    """A scrape a second for a weekend must not write 200,000 tracebacks."""
    collectors = Collectors({"broken": Broken()})
    for _ in range(3):
        scrape(collectors)
    assert len(caplog.records) == 1
    collectors._failing.clear()
    scrape(collectors)
    assert len(caplog.records) == 2

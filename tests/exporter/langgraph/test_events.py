"""Events are handled one at a time, and never block the app for good."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from exporter.langgraph import events
from exporter.langgraph.events import Events

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


def test_an_event_inside_an_event_is_handled_after_it() -> None:
    """The garbage collector may end an abandoned stream within any event, of which the metrics hold locks."""
    handled: list[str] = []
    queue = Events(lambda: None)

    def outer() -> None:
        queue.handle(lambda: handled.append("inner"))
        handled.append("outer")

    queue.handle(outer)
    assert handled == ["outer", "inner"]


def test_an_event_whose_lock_is_stuck_is_handled_with_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape that was interrupted by the collector may wait for the very thread that waits for it."""
    monkeypatch.setattr(events, "LOCK_SECONDS", 0.0)
    handled: list[str] = []
    queue = Events(lambda: None)

    def outer() -> None:
        other = threading.Thread(target=queue.handle, args=(lambda: handled.append("other thread"),))
        other.start()
        other.join()
        handled.append("this thread")

    queue.handle(outer)
    assert handled == ["this thread", "other thread"]


def test_a_failure_is_reported_and_the_next_event_handled() -> None:
    """One bad event must cost its own figures only."""
    found: list[str] = []
    queue = Events(lambda: found.append("failed"))
    wrong: list[Callable[[], None]] = [lambda: {}["gone"], lambda: found.append("handled")]
    for event in wrong:
        queue.handle(event)
    assert found == ["failed", "handled"]


def test_threads_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two events at once would corrupt the table of open runs."""
    monkeypatch.setattr(events, "LOCK_SECONDS", 60.0)
    queue, counts = Events(lambda: None), [0]

    def count() -> None:
        before = counts[0]
        counts[0] = before + 1

    threads = [threading.Thread(target=lambda: [queue.handle(count) for _ in range(500)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [4000]

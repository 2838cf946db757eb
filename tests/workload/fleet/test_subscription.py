"""The subscription against a publisher that speaks as vLLM's does."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from tests.stubs.kv_publisher import StubPublisher
from workload.fleet.event_source import EventSource
from workload.fleet.events import Cleared, EngineId, Event, Lost, Removed
from workload.fleet.subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workload.fleet.events import Batch

ENGINE = EngineId("e0", 1)


@pytest.fixture
def publisher() -> Iterator[StubPublisher]:
    """Publish nothing yet."""
    with StubPublisher() as publisher:
        yield publisher


class Inbox:
    """What was delivered."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._more = threading.Condition()

    def deliver(self, batch: Batch) -> None:
        """Take a batch."""
        assert batch.engine == ENGINE
        with self._more:
            self.events += batch.events
            self._more.notify_all()

    def wait_for(self, count: int) -> None:
        """Return once so many events have arrived."""
        with self._more:
            assert self._more.wait_for(lambda: len(self.events) >= count, 10), self.events


def removed(name: int) -> dict[str, object]:
    """Return an event that is known by its number."""
    return {"type": "BlockRemoved", "block_hashes": [name]}


def names(inbox: Inbox) -> list[object]:
    """Return the numbers of the events, and the type of each mark."""
    return [event.hashes[0] if isinstance(event, Removed) else type(event) for event in inbox.events]


def subscribe(publisher: StubPublisher, inbox: Inbox, *, replays: bool = True) -> Subscription:
    """Return a subscription to the publisher."""
    source = EventSource(ENGINE, publisher.endpoint, publisher.replay_endpoint if replays else None)
    return Subscription([source], inbox.deliver)


def test_begins_with_what_was_published_before(publisher: StubPublisher) -> None:
    """An engine that has warmed up is not unknown until it is cleared, if it still has its first message."""
    inbox = Inbox()
    publisher.publish(removed(0))
    publisher.publish(removed(1))
    with subscribe(publisher, inbox):
        publisher.wait_for_subscriber()
        publisher.publish(removed(2), at=2.0)
        inbox.wait_for(3)
    assert names(inbox) == [0, 1, 2]


def test_asks_again_for_what_is_missing(publisher: StubPublisher) -> None:
    """A full queue drops messages in silence; the next number shows it."""
    inbox = Inbox()
    with subscribe(publisher, inbox):
        publisher.wait_for_subscriber()
        for name, is_lost in enumerate([False, True, True, False]):
            publisher.publish(removed(name), at=name, is_lost=is_lost)
        inbox.wait_for(4)
    assert names(inbox) == [0, 1, 2, 3]


def test_asks_a_long_replay_again_from_the_first_message_missing() -> None:
    """A replay of 5,000 messages lost some: its sender drops what its own queue cannot take."""
    inbox = Inbox()
    with StubPublisher(drops=(2, 3)) as publisher:
        for name in range(6):
            publisher.publish(removed(name), at=name)
        with subscribe(publisher, inbox):
            inbox.wait_for(6)
        assert publisher.requests[:2] == [0, 2]
    assert names(inbox) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("replays", [True, False])
def test_marks_what_cannot_be_replayed_as_lost(replays: bool) -> None:
    """An engine keeps its last 10,000 messages, and may not replay any."""
    inbox = Inbox()
    with StubPublisher(keeps=1) as publisher, subscribe(publisher, inbox, replays=replays):
        publisher.wait_for_subscriber()
        for name, is_lost in enumerate([False, True, True, False]):
            publisher.publish(removed(name), at=name, is_lost=is_lost)
        inbox.wait_for(3)
    assert names(inbox) == [0, Lost, 3]


def test_reads_the_last_messages_when_it_ends(publisher: StubPublisher) -> None:
    """The loss of the last message never shows: no number follows."""
    inbox = Inbox()
    with subscribe(publisher, inbox):
        publisher.wait_for_subscriber()
        publisher.publish(removed(0))
        publisher.publish(removed(1), at=2.0, is_lost=True)
        inbox.wait_for(1)
    assert names(inbox) == [0, 1]


def test_numbers_that_begin_again_are_a_restart(publisher: StubPublisher) -> None:
    """The cache of an engine that was restarted is empty; the first of its messages may come before we reconnect."""
    inbox = Inbox()
    with subscribe(publisher, inbox):
        publisher.wait_for_subscriber()
        for name in range(3):
            publisher.publish(removed(name), at=name)
        inbox.wait_for(3)
        publisher.restart()
        publisher.publish(removed(10), at=10.0, is_lost=True)
        publisher.publish(removed(11), at=11.0)
        inbox.wait_for(6)
    assert names(inbox) == [0, 1, 2, Cleared, 10, 11]
    assert inbox.events[3] == Cleared("restart")


def test_a_malformed_message_counts_as_lost(publisher: StubPublisher) -> None:
    """Its events are unknown, and those that follow are in order."""
    inbox = Inbox()
    with subscribe(publisher, inbox):
        publisher.wait_for_subscriber()
        publisher.publish(removed(0))
        publisher.publish(payload=b"\xc1")
        publisher.publish(removed(2), at=2.0)
        inbox.wait_for(3)
    assert names(inbox) == [0, Lost, 2]


def test_an_engine_that_is_not_there_does_not_stop_it() -> None:
    """Events come when the engine does; until then its endpoints refuse the connection."""
    inbox = Inbox()
    publisher = StubPublisher()
    with subscribe(publisher, inbox), publisher:
        publisher.wait_for_subscriber()
        publisher.publish(removed(0))
        inbox.wait_for(1)
    assert names(inbox) == [0]

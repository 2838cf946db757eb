"""Events are cut where they end, whatever pieces they arrive in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from workload.tap import events
from workload.tap.events import EventCutter

if TYPE_CHECKING:
    import pytest

EVENTS = [b"data: 1\n\n", b"data: 2\r\n\r\n", b": c\r\r", b"event: x\ndata: \r3\n\n", b"\n\n"]


@given(st.lists(st.sampled_from(EVENTS)), st.lists(st.integers(0, 9)))
def test_any_pieces_give_the_same_events(sent: list[bytes], cuts: list[int]) -> None:
    """An empty line may come in two pieces; together the events are what was sent."""
    stream, cutter, found = b"".join(sent), EventCutter(), []
    for length in (*cuts, len(stream)):
        found += cutter.take(stream[:length])
        stream = stream[length:]
    assert found == EventCutter().take(b"".join(sent))
    assert b"".join(found) + cutter.rest() == b"".join(sent)


def test_an_event_without_an_end_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that never ends an event cannot fill the memory."""
    monkeypatch.setattr(events, "MAX_EVENT_BYTES", 8)
    cutter = EventCutter()
    assert cutter.take(b"data: 1") == []
    assert cutter.take(b"23") == [b"data: 123"]
    assert cutter.rest() == b""

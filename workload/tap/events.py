"""Cuts a stream of bytes into whole server-sent events, whatever pieces it arrives in."""

from __future__ import annotations

import re

END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
MAX_EVENT_BYTES = 1 << 25
"""What may wait for the end of its event: the ids of a prompt of a million tokens take some seven megabytes."""


class EventCutter:
    """The bytes of one stream; an event is complete with the empty line after it."""

    def __init__(self) -> None:
        self._rest = b""

    def take(self, data: bytes) -> list[bytes]:
        """Return the events that are complete with these bytes, each with its empty line; together they lose nothing.

        An event that is too long is returned in pieces as it arrives.
        """
        searched = max(len(self._rest) - 3, 0)  # the empty line may have begun in the bytes before
        joined = self._rest + data
        events, start = [], 0
        for end in END.finditer(joined, searched):
            events.append(joined[start : end.end()])
            start = end.end()
        self._rest = joined[start:]
        if len(self._rest) > MAX_EVENT_BYTES:
            events.append(self.rest())
        return events

    def rest(self) -> bytes:
        """Return what has arrived of an event that never ended."""
        rest, self._rest = self._rest, b""
        return rest

"""Samples with explicit millisecond timestamps: the /metrics/timeline exposition.

Prometheus stores every sample of a scrape whose timestamps ascend within a series. The window is longer than a scrape
interval, so one or two missed scrapes lose nothing; a sample that is sent twice is stored once.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WINDOW_MS = 3_000
HEARTBEAT_MS = 1_000
MEMORY_USED = "nvml_timeline_memory_used_bytes"
MEMORY_USED_HELP = "Device memory in use at each sample; query it with last_over_time over a short window."
NODE_ACTIVE = "hop2rag_timeline_node_active"
NODE_ACTIVE_HELP = (
    "1 from the millisecond a worker enters a node, 0 from the one it leaves; repeated every second while 1."
)


def encode_header(name: str, text: str) -> str:
    """Return the HELP and TYPE lines of a gauge."""
    return f"# HELP {name} {text}\n# TYPE {name} gauge\n"


@dataclass(slots=True)
class _Visits:
    """One worker in one node: how many visits are open, and the latest edges as (time in ms, 0 or 1)."""

    prefix: str
    inside: int = 0
    edges: deque[tuple[int, int]] = field(default_factory=deque)

    def add_edge(self, now_ms: int, value: int) -> None:
        """Append an edge at least 1 ms after the previous one, because a series has one value per millisecond.

        A clock that is set back by more than a heartbeat starts the series again.
        """
        if self.edges and now_ms < self.edges[-1][0] - HEARTBEAT_MS:
            self.edges.clear()
        if self.edges:
            now_ms = max(now_ms, self.edges[-1][0] + 1)
        self.edges.append((now_ms, value))

    def prune(self, since_ms: int) -> None:
        """Drop edges before `since_ms`, except the last one, which gives the value at that time."""
        while len(self.edges) > 1 and self.edges[1][0] <= since_ms:
            self.edges.popleft()

    def samples(self, since_ms: int, now_ms: int) -> Iterator[tuple[int, int]]:
        """Yield the edges since `since_ms` and, while the worker is inside, a 1 at each whole second before `now_ms`.

        The time of a heartbeat depends on the clock only, so every scrape that covers it sends the same sample.
        """
        following = [*list(self.edges)[1:], (now_ms, 0)]
        for (start_ms, value), (end_ms, _) in zip(self.edges, following, strict=True):
            if start_ms >= since_ms:
                yield start_ms, value
            if value:
                first = max(start_ms, since_ms - 1) // HEARTBEAT_MS * HEARTBEAT_MS + HEARTBEAT_MS
                yield from ((beat_ms, 1) for beat_ms in range(first, end_ms, HEARTBEAT_MS))


class NodeActivity:
    """Which worker is inside which node, to the millisecond, over the last `window_ms`.

    `enter` and `leave` may be called from any thread and take a few microseconds. Workers and nodes are closed label
    sets: values that do not fit are counted together as "other". A pair that was inactive for the whole window is
    dropped; its last sample was the 0 of its last edge.

    Args:
        clock_ms: the wall clock in milliseconds.
        window_ms: how far back an exposition reaches; a longer window survives longer outages but makes larger scrapes.
    """

    def __init__(
        self,
        clock_ms: Callable[[], int],
        *,
        window_ms: int = WINDOW_MS,
        max_workers: int = 256,
        max_nodes: int = 32,
    ) -> None:
        self._clock_ms = clock_ms
        self._window_ms = window_ms
        self._workers = LabelSet(max_workers)
        self._nodes = LabelSet(max_nodes)
        self._visits: dict[tuple[str, str], _Visits] = {}
        self._lock = threading.Lock()

    def enter(self, worker: str, node: str) -> None:
        """Record that `worker` enters `node` now."""
        self._move(worker, node, 1)

    def leave(self, worker: str, node: str) -> None:
        """Record that `worker` leaves `node` now; without a previous `enter` this changes nothing."""
        self._move(worker, node, -1)

    def expose(self) -> bytes:
        """Return the exposition: every edge of the window and the heartbeats, ascending within each series."""
        with self._lock:
            now_ms = self._clock_ms()
            since_ms = now_ms - self._window_ms
            lines = [encode_header(NODE_ACTIVE, NODE_ACTIVE_HELP)]
            for key, visits in list(self._visits.items()):
                visits.prune(since_ms)
                if not visits.inside and visits.edges[-1][0] < since_ms:
                    del self._visits[key]
                    continue
                lines += [f"{visits.prefix}{value} {ts}\n" for ts, value in visits.samples(since_ms, now_ms)]
        return "".join(lines).encode()

    def _move(self, worker: str, node: str, step: int) -> None:
        with self._lock:
            key = (self._workers.admit(worker), self._nodes.admit(node))
            visits = self._visits.get(key)
            if visits is None:
                if step < 0:
                    return
                visits = self._visits[key] = _Visits(f'{NODE_ACTIVE}{{worker="{key[0]}",node="{key[1]}"}} ')
            before, visits.inside = visits.inside, max(0, visits.inside + step)
            if bool(before) != bool(visits.inside):
                now_ms = self._clock_ms()
                visits.add_edge(now_ms, int(visits.inside > 0))
                visits.prune(now_ms - self._window_ms)


OTHER = "other"


_PLAIN = re.compile(r"[A-Za-z0-9._:+-]{1,64}")


class LabelSet:
    """Admits the first `limit` distinct plain values; any other value becomes "other".

    Plain means 1 to 64 ASCII letters, digits, dots, dashes, underscores, colons or plus signs: no prompt, path or
    megabyte of text can become a label. `known` values are admitted from the start and count toward the limit.
    """

    def __init__(self, limit: int, known: tuple[str, ...] = ()) -> None:
        self._limit = limit
        self._admitted = set(known)

    def admit(self, value: str) -> str:
        """Return `value` if it belongs to the set or still fits, else "other"."""
        if value in self._admitted:
            return value
        if len(self._admitted) >= self._limit or not _PLAIN.fullmatch(value):
            return OTHER
        self._admitted.add(value)
        return value

"""Measure what the ledger of prompt tokens costs per event and per call, and its memory over 100,000 calls.

Usage: python benchmarks/ledger.py [CALLS]. Times are CPU times.

The events are those of one engine with a pool of 4,000 blocks: talks that share a preamble, grow, and push each other
out. Each call asks for the full report, and has about 1,500 prompt tokens.
"""

from __future__ import annotations

import platform
import random
import sys
import time
from array import array
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Any

import ormsgpack
import psutil

from workload.fleet.account import Account
from workload.fleet.events import EngineId, decode
from workload.fleet.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

ENGINE = EngineId("e0")
SIZE, POOL, PREAMBLE = 32, 4_000, 20
BAR_EVENT, BAR_CALL = 20.0, 200.0


class Engine:
    """A cache that evicts the block that was not used for longest."""

    def __init__(self) -> None:
        self._draw = random.Random(0)
        self._pool: OrderedDict[int, None] = OrderedDict()
        self._shared = self._tokens(PREAMBLE)
        self._talks: list[tuple[list[int], list[int]]] = [([], []) for _ in range(200)]
        self._names = 0

    def _tokens(self, blocks: int) -> list[int]:
        return [self._draw.randrange(49_152) for _ in range(blocks * SIZE)]

    def _new(self, blocks: int) -> list[int]:
        self._names += blocks
        return list(range(self._names - blocks, self._names))

    def call(self, session: str) -> tuple[list[int], int, list[dict[str, Any]]]:
        """Return a prompt, its cached tokens and the events of its step."""
        talk = self._draw.randrange(len(self._talks))
        names, tokens = self._talks[talk]
        if len(names) > 80 or not names:
            names, tokens = self._preamble(), list(self._shared)
        more = self._draw.randrange(4, 16)
        names, tokens = names + self._new(more), tokens + self._tokens(more)
        self._talks[talk] = names, tokens
        hit = next((at for at, name in enumerate(names) if name not in self._pool), len(names))
        for name in reversed(names):
            self._pool[name] = None
            self._pool.move_to_end(name)
        gone = [self._pool.popitem(last=False)[0] for _ in range(len(self._pool) - POOL)]
        events = [self._stored(session, names, tokens, 0, hit)] if hit else []
        events += [{"type": "BlockRemoved", "block_hashes": [name], "medium": "GPU"} for name in gone]
        return [*tokens, 1], hit * SIZE, [*events, self._stored(session, names, tokens, hit, len(names))]

    def _preamble(self) -> list[int]:
        if not self._names:
            self._new(PREAMBLE)
        return list(range(PREAMBLE))

    @staticmethod
    def _stored(session: str, names: list[int], tokens: list[int], first: int, end: int) -> dict[str, Any]:
        return {
            "type": "BlockStored",
            "block_hashes": names[first:end],
            "parent_block_hash": names[first - 1] if first else None,
            "token_ids": tokens[first * SIZE : end * SIZE],
            "block_size": SIZE,
            "medium": "GPU",
            "session_id": session,
        }


def story(calls: int) -> Iterator[tuple[Account, bytes, int]]:
    """Yield each call with the message of its step, and the number of events in it."""
    engine = Engine()
    for number in range(calls):
        prompt, cached, events = engine.call(f"call-{number}")
        account = Account(
            session=f"call-{number}",
            server=ENGINE.server,
            prompt=array("I", prompt),
            cached_tokens=cached,
            started=float(number),
            ended=number + 0.9,
        )
        yield account, ormsgpack.packb([number + 0.5, events, 0]), len(events)


def main() -> None:
    """Print the table, and fail where a bar is missed."""
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    print(f"Python {platform.python_version()}, {calls:,} calls")
    ledger, process = Ledger({ENGINE: SIZE}), psutil.Process()
    events = closed = tokens = 0
    seconds: Counter[str] = Counter()
    fates: Counter[str] = Counter()
    memory = {}
    for number, (account, payload, count) in enumerate(story(calls)):
        start = time.process_time()
        ledger.send(account.session, account.started)
        ledger.end(account)
        sent = time.process_time()
        ledger.take(decode(payload, ENGINE.server, number + 0.6))
        entries = ledger.advance(float(number))
        done = time.process_time()
        seconds["call"] += sent - start
        seconds["event"] += done - sent
        events, closed, tokens = events + count, closed + len(entries), tokens + len(account.prompt)
        for entry in entries:
            fates.update(entry.fates)
        if number + 1 in {calls // 4, calls // 2, calls}:
            memory[number + 1] = process.memory_info().rss / 2**20
    fates.update(*(entry.fates for entry in ledger.advance()[:1]))
    event, call = seconds["event"] / events * 1e6, seconds["call"] / calls * 1e6
    print(f"{events:,} events, {tokens / calls:.0f} prompt tokens per call, {closed:,} calls closed; {dict(fates)}")
    print(f"{event:.1f} us per event, its call's look-up included (bar {BAR_EVENT:.0f})")
    print(f"{call:.1f} us per call on the client's side (bar {BAR_CALL:.0f})")
    print("; ".join(f"{size:.0f} MiB after {number:,} calls" for number, size in memory.items()))
    sys.exit(event > BAR_EVENT or call > BAR_CALL)


if __name__ == "__main__":
    main()

"""A publisher of KV cache events that speaks as vLLM's does: XPUB for the events, ROUTER for the replay."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import ormsgpack
import zmq

from tests.stubs.engine import prompt_ids
from tests.stubs.vllm import StubVllm, Turn
from workload.engine.kv_events import FLAG
from workload.engine.profile import SERVER_MODULE
from workload.services.process import free_port

if TYPE_CHECKING:
    import asyncio

END = (1 << 64) - 1


class StubPublisher:
    """The publisher; a context manager.

    Args:
        keeps: how many messages can be replayed.
        drops: numbers that the first replay loses, as a full queue does.
    """

    def __init__(self, keeps: int = 1000, drops: tuple[int, ...] = ()) -> None:
        self.keeps, self.drops = keeps, set(drops)
        self.endpoint, self.replay_endpoint = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
        self.number = 0
        self.sent: list[tuple[int, bytes]] = []
        self.requests: list[int] = []
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._stopping = threading.Event()

    def __enter__(self) -> Self:
        self._events = self._context.socket(zmq.XPUB)
        self._events.bind(self.endpoint)
        self._thread = threading.Thread(target=self._answer, name="replay")
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._events.close(linger=0)
        self._context.term()

    def wait_for_subscriber(self) -> None:
        """Return once somebody has subscribed."""
        assert self._events.poll(5_000)
        self._events.recv()

    def publish(self, *events: Any, at: float = 1.0, is_lost: bool = False, payload: bytes | None = None) -> None:
        """Publish a batch; one that is lost can still be replayed."""
        raw = ormsgpack.packb([at, list(events), 0]) if payload is None else payload
        self.sent = [*self.sent, (self.number, raw)][-self.keeps :]
        if not is_lost:
            self._events.send_multipart([b"kv", self.number.to_bytes(8, "big"), raw])
        self.number += 1

    def restart(self) -> None:
        """Number the messages from 0 again, and forget those before."""
        self.number, self.sent = 0, []

    def _answer(self) -> None:
        with self._context.socket(zmq.ROUTER) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.bind(self.replay_endpoint)
            while not self._stopping.is_set():
                if socket.poll(20):
                    self._replay(socket)

    def _replay(self, socket: zmq.Socket[bytes]) -> None:
        client, _, start = socket.recv_multipart()
        self.requests.append(int.from_bytes(start))
        dropped, self.drops = self.drops, set()
        for number, raw in self.sent:
            if number >= int.from_bytes(start) and number not in dropped:
                socket.send_multipart([client, b"", b"kv", number.to_bytes(8, "big"), raw])
        socket.send_multipart([client, b"", b"kv", END.to_bytes(8, "big"), b""])


class PublishingVllm(StubVllm):
    """A stub server that publishes what its cache, which evicts nothing, does for each call."""

    def __init__(self, publisher: StubPublisher, block_size: int = 16) -> None:
        super().__init__(block_size)
        self._publisher = publisher
        self._names: dict[tuple[str, tuple[int, ...]], int] = {}

    @property
    def argv(self) -> tuple[str, ...]:
        """The command line with which such an engine would have been started."""
        own = {"endpoint": self._publisher.endpoint, "replay_endpoint": self._publisher.replay_endpoint}
        config = {"enable_kv_cache_events": True, "publisher": "zmq", **own}
        return ("python", "-m", SERVER_MODULE, FLAG, json.dumps(config))

    async def _stream(self, body: dict[str, Any], turn: Turn, writer: asyncio.StreamWriter) -> None:
        prompt, salt, size = prompt_ids(body["messages"]), body.get("cache_salt", ""), self.block_size
        prefixes = [(salt, tuple(prompt[:end])) for end in range(size, len(prompt) + 1, size)]
        usable = prefixes[: (len(prompt) - 1) // size]
        hits = next((at for at, prefix in enumerate(usable) if prefix not in self._names), len(usable))
        events = []
        for first, end in ((0, hits), (hits, len(prefixes))):
            for prefix in prefixes[first:end]:
                self._names.setdefault(prefix, len(self._names) + 1)
            if first < end:
                event = {"type": "BlockStored", "block_hashes": [self._names[each] for each in prefixes[first:end]]}
                event |= {"parent_block_hash": self._names[prefixes[first - 1]] if first else None}
                event |= {"token_ids": prompt[first * size : end * size], "block_size": size, "medium": "GPU"}
                events.append(event | {"session_id": body.get("session_id"), "extra_keys": [[salt] if salt else None]})
        self._publisher.publish(*events, at=time.time())
        await super()._stream(body, turn, writer)

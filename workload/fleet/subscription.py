"""Subscribes to the KV cache events of engines, over ZeroMQ, in a thread of its own.

vLLM binds an endpoint that contains `*` or `::`, or is `ipc://`, and connects to any other; we connect. Its replay
endpoint sends again the messages from a number on that it still has, but drops what its own queue cannot take: a long
replay is asked for again from the first message missing.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Self

import zmq

from workload.fleet.event_stream import EventStream, Message

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from workload.fleet.event_source import EventSource
    from workload.fleet.events import Batch

POLL_MILLISECONDS = 200
REPLAY_MILLISECONDS = 1000
REPLAY_ROUNDS = 20
MAX_MESSAGE_BYTES = 16 << 20
MAX_QUEUED = 100_000
"""Messages beyond it are dropped, and missed by their numbers."""
NUMBER_BYTES = 8
END = (1 << 64) - 1
"""The number that ends a replay: -1."""
FRAMES = 3


class Subscription:
    """Delivers the events of engines, from their first on where they can be replayed; a context manager.

    Args:
        sources: the engines' endpoints.
        deliver: gets each batch, in the thread of the subscription; events of one engine come in order.
        wall: seconds since 1970.
        on_failure: gets the error that ends the subscription, after which all events are lost.
    """

    def __init__(
        self,
        sources: Sequence[EventSource],
        deliver: Callable[[Batch], object],
        wall: Callable[[], float] = time.time,
        *,
        on_failure: Callable[[Exception], object] = lambda _: None,
    ) -> None:
        self._sources, self._deliver, self._wall, self._on_failure = sources, deliver, wall, on_failure
        self._streams = {source.engine: EventStream(source.engine) for source in sources}
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._thread = threading.Thread(target=self._run_safely, name="kv-events", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._context.term()

    def _run_safely(self) -> None:
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 - whoever waits for the first events must not wait for ever
            self._on_failure(error)
            for source in self._sources:
                self._deliver(self._streams[source.engine].lose("the subscription failed", self._wall()))
        finally:
            self._ready.set()

    def _run(self) -> None:
        with ExitStack() as stack:
            sockets = {stack.enter_context(self._socket(zmq.SUB)): source for source in self._sources}
            poller = zmq.Poller()
            for socket, source in sockets.items():
                socket.setsockopt_string(zmq.SUBSCRIBE, source.topic)
                socket.connect(source.endpoint)
                poller.register(socket, zmq.POLLIN)
                self._catch_up(source)
            self._ready.set()
            while not self._stopping.is_set():
                for socket, _ in poller.poll(POLL_MILLISECONDS):
                    self._read(socket, sockets[socket])
            for socket, source in sockets.items():
                while socket.poll(0):
                    self._read(socket, source)
                self._catch_up(source)

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVHWM, MAX_QUEUED)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        return socket

    def _read(self, socket: zmq.Socket[bytes], source: EventSource) -> None:
        if message := _message(socket.recv_multipart()):
            self._take(source, message)

    def _take(self, source: EventSource, message: Message) -> None:
        stream = self._streams[source.engine]
        for batch in stream.take(message, self._wall(), lambda start: self._replay(source, start)):
            self._deliver(batch)

    def _catch_up(self, source: EventSource) -> None:
        for message in self._replay(source, self._streams[source.engine].due):
            self._take(source, message)

    def _replay(self, source: EventSource, start: int) -> list[Message]:
        """Return the messages from a number on that the engine still has."""
        found: list[Message] = []
        for _ in range(REPLAY_ROUNDS if source.replay_endpoint else 0):
            more, is_complete = self._ask(source, start)
            found += more
            if is_complete or not more:
                break
            start = found[-1].number + 1
        return found

    def _ask(self, source: EventSource, start: int) -> tuple[list[Message], bool]:
        """Return the consecutive messages that one request brings, and whether these are all."""
        found: list[Message] = []
        with suppress(zmq.ZMQError), self._socket(zmq.DEALER) as socket:
            socket.connect(str(source.replay_endpoint))
            socket.send_multipart([b"", start.to_bytes(NUMBER_BYTES, "big")])
            while socket.poll(REPLAY_MILLISECONDS):
                message = _message(socket.recv_multipart()[1:])
                if message is None or message.number == END:
                    return found, message is not None
                if found and message.number != found[-1].number + 1:
                    break
                found.append(message)
        return found, False


def _message(frames: list[bytes]) -> Message | None:
    """Return the message in its frames: topic, number, payload; None if it is something else."""
    if len(frames) != FRAMES or len(frames[1]) != NUMBER_BYTES:
        return None
    return Message(int.from_bytes(frames[1]), frames[2])

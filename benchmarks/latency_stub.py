"""An endpoint that answers every chat completion after a fixed time, as fast as Python can: run it as a process.

Usage: python benchmarks/latency_stub.py [--seconds 0.1] [--tokens 16]

Prints its port. A prompt that holds a number as in "#17#" is remembered with the wall-clock instant at which it was
all there: GET /arrivals returns them as {"17": seconds} and forgets them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time

import uvloop

NUMBER = re.compile(rb"#(\d+)#")
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
MODEL = "stub"


def stream_of(tokens: int) -> bytes:
    """Return a whole response: the opening chunk, one chunk a token, the usage, as vLLM 0.32 sends them."""
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    choice = {"index": 0, "logprobs": None, "finish_reason": None}
    deltas = [{"role": "assistant", "content": ""}, *({"content": "word "} for _ in range(tokens))]
    events = [{**chunk, "choices": [{**choice, "delta": delta}]} for delta in deltas]
    events[-1]["choices"][0]["finish_reason"] = "length"
    usage = {"prompt_tokens": 20, "completion_tokens": tokens, "total_tokens": 20 + tokens}
    events.append({**chunk, "choices": [], "usage": {**usage, "prompt_tokens_details": {"cached_tokens": 0}}})
    frames = [f"data: {text}\n\n".encode() for text in (*map(json.dumps, events), "[DONE]")]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(frame), frame) for frame in frames) + b"0\r\n\r\n"


class Stub(asyncio.Protocol):
    """One connection; `arrivals` is shared by all."""

    def __init__(self, seconds: float, reply: bytes, arrivals: dict[str, float]) -> None:
        self._seconds, self._reply, self._arrivals = seconds, reply, arrivals
        self._loop = asyncio.get_running_loop()
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request that is complete."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n") + 4) > 3:
            head = self._buffer[:end]
            length = LENGTH.search(head)
            whole = end + (int(length[1]) if length else 0)
            if len(self._buffer) < whole:
                return
            body, self._buffer = self._buffer[end:whole], self._buffer[whole:]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"POST"):
            if number := NUMBER.search(body):
                self._arrivals[number[1].decode()] = time.time()
            self._loop.call_later(self._seconds, self._transport.write, self._reply)
            return
        found = dict(self._arrivals) if b"/arrivals" in head else {"object": "list", "data": [{"id": MODEL}]}
        if b"/arrivals" in head:
            self._arrivals.clear()
        text = json.dumps(found).encode()
        kind = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        self._transport.write(b"%sContent-Length: %d\r\n\r\n%s" % (kind, len(text), text))


async def serve(seconds: float, tokens: int) -> None:
    """Serve on a free port until the process is ended."""
    reply, arrivals = stream_of(tokens), {}
    server = await asyncio.get_running_loop().create_server(
        lambda: Stub(seconds, reply, arrivals), "127.0.0.1", 0, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=0.1)
    parser.add_argument("--tokens", type=int, default=16)
    given = parser.parse_args()
    uvloop.run(serve(given.seconds, given.tokens))

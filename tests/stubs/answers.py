"""A stub vLLM that answers the same request with the same bytes, whole or as a stream, as vLLM 0.32 does.

With `return_token_ids` it fills fields that are null without it, and sends events of tokens without text, which it
otherwise leaves out; a stream's usage comes in an event without choices, and with `continuous_usage_stats` in each. The
last event has the server's fingerprint.
"""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

from tests.stubs.http import frame, send
from tests.stubs.vllm import StubVllm

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
FINGERPRINT = "vllm-stub"
PROMPT = [1, 17, 300, 17, 300, 17, 300]


class AnsweringVllm(StubVllm):
    """The server; a request's `texts` are the reply's tokens, "" is one without text, and `extra` comes before them.

    Attributes:
        cuts: the lengths of the pieces in which a stream is sent; the rest comes in one.
        ticks: a reply never ends: one token follows the other until the client has gone.
        left: set once the client of such a reply has gone.
        bodies: what was asked, by what arrived.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cuts: list[int] = []
        self.ticks = False
        self.left = threading.Event()
        self.bodies: list[dict[str, Any]] = []

    async def answer(self, path: str, content: bytes, writer: asyncio.StreamWriter) -> None:
        """Answer completions from the request alone, all else as the other stub does."""
        body = json.loads(content or b"{}")
        if path not in {CHAT, TEXT} or "texts" not in body:
            await super().answer(path, content, writer)
            return
        self.bodies.append(body)
        if not body.get("stream"):
            kind = {"Content-Type": "application/json", "X-Request-Id": "1"}
            await send(writer, 200, json.dumps(whole(path, body)), kind)
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        stream = "".join(events(path, body)).encode()
        for length in self.cuts:
            if part := stream[:length]:
                await frame(writer, part)
            stream = stream[length:]
        try:
            while self.ticks:
                await frame(writer, f"data: {json.dumps(chunk(path, body, 'x'))}\n\n".encode())
                await asyncio.sleep(0.005)
        except ConnectionError:
            self.left.set()
            raise
        if stream:
            await frame(writer, stream)
        await frame(writer, b"")


def events(path: str, body: Mapping[str, Any]) -> Iterator[str]:
    """Yield the events of a stream."""
    ids = PROMPT if body.get("return_token_ids") else None
    options = body.get("stream_options") or {}
    yield from body.get("extra", [])
    if path == CHAT:
        for index in range(body.get("n", 1)):
            opening = {"index": index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
            yield _event(_part(path, [opening], body, prompt_token_ids=ids))
    for index in range(body.get("n", 1)):
        for place, text in enumerate(body["texts"]):
            is_last = place + 1 == len(body["texts"])
            if text or is_last or ids or path == TEXT:
                yield _event(chunk(path, body, text, index=index, is_first=not place, is_last=is_last))
    if options.get("include_usage"):
        yield _event({**_part(path, [], {}), "usage": usage(body), "system_fingerprint": FINGERPRINT})
    yield "data: [DONE]\n\n"


def chunk(
    path: str, body: Mapping[str, Any], text: str, *, index: int = 0, is_first: bool = False, is_last: bool = False
) -> dict[str, Any]:
    """Return the chunk of one token."""
    has_ids = bool(body.get("return_token_ids"))
    said = {"delta": {"content": text} if text else {}} if path == CHAT else {"text": text}
    choice = {"index": index, **said, "logprobs": None, "finish_reason": "stop" if is_last else None}
    if path == TEXT:
        choice["prompt_token_ids"] = PROMPT if has_ids and is_first else None
    has_usage = (body.get("stream_options") or {}).get("include_usage")
    mark = {"system_fingerprint": FINGERPRINT} if is_last and not has_usage and body.get("n", 1) == 1 else {}
    return _part(path, [{**choice, "token_ids": [len(text)] if has_ids else None}], body, **mark)


def whole(path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of an answer that is no stream."""
    has_ids = bool(body.get("return_token_ids"))
    ids = [len(text) for text in body["texts"]] if has_ids else None
    text = "".join(body["texts"])
    said = {"message": {"role": "assistant", "content": text}} if path == CHAT else {"text": text}
    prompt = {"prompt_token_ids": PROMPT if has_ids else None}
    own = prompt if path == TEXT else {}
    choices = [
        {"index": index, **said, "finish_reason": "stop", "token_ids": ids, **own} for index in range(body.get("n", 1))
    ]
    return {**_part(path, choices, {}), "usage": usage(body), **(prompt if path == CHAT else {})}


def usage(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the usage of an answer."""
    return {
        "prompt_tokens": len(PROMPT),
        "completion_tokens": len(body["texts"]) * body.get("n", 1),
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def _part(path: str, choices: list[dict[str, Any]], body: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    options = body.get("stream_options") or {}
    is_continuous = options.get("include_usage") and options.get("continuous_usage_stats")
    kind = "chat.completion.chunk" if path == CHAT else "text_completion"
    return {
        "id": "chatcmpl-7",
        "object": kind,
        "choices": choices,
        **more,
        **({"usage": usage(body)} if is_continuous and choices else {}),
    }


def _event(value: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(value)}\n\n"

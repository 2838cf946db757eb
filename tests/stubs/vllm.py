"""A stub vLLM server: the chunks of a real one (fixtures/vllm/chat_stream_0.32.0.jsonl), and every way to fail.

It speaks HTTP from a thread of its own; see `tests.stubs.http`.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tests.stubs.engine import END, StubCache, exposition, natural_reply, pieces, prompt_ids, token_ids
from tests.stubs.http import HttpServer, frame, send

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TOO_LONG = (
    "This model's maximum context length is 8192 tokens. However, your prompt contains at least 8193 input tokens."
)

Then = Literal["finish", "cut", "end", "reset", "hang", "error", "garbage", "no_usage"]


@dataclass(frozen=True)
class Turn:
    """How one completion goes.

    Attributes:
        text: the reply; None for a natural one.
        obeys: whether `max_tokens` is respected.
        status, message, headers: other than 200, a plain JSON error.
        after: tokens sent before `then` happens; None for all of them, 0 for before the response's head.
        then: finish; cut (closed in mid-body), end (the body ends early, politely), reset (TCP RST), hang, error (an
            error object in the stream), garbage (a chunk of other bytes, then the end), no_usage.
        garbage: that chunk.
        seconds: pause before the first token, as prefill has.
        has_ids: whether `return_token_ids` is understood.
        usage: fields of the usage that replace the true ones; those that are `...` are left out.
        ends: the finish reason that replaces the true one.
    """

    text: str | None = None
    obeys: bool = True
    status: int = 200
    message: str = "stub"
    headers: Mapping[str, str] = field(default_factory=dict)
    after: int | None = None
    then: Then = "finish"
    garbage: str = '{"choices": [{"del'
    seconds: float = 0.0
    has_ids: bool = True
    usage: Mapping[str, Any] = field(default_factory=dict)
    ends: Any = None


def node_of(body: Mapping[str, Any]) -> str:
    """Return the node that sent a request: each has its own schema, and `generate` has none."""
    nodes = {"Decomposition": "decompose", "Clues": "extract_clues", "Decision": "decide"}
    wanted = body.get("response_format")
    return nodes[wanted["json_schema"]["name"]] if wanted else "generate"


def by_node(**texts: str | Turn) -> Callable[[Mapping[str, Any]], Turn]:
    """Return a script that says the same at each visit of a node, and something natural elsewhere."""

    def turn(body: Mapping[str, Any]) -> Turn:
        said = texts.get(node_of(body), Turn())
        return said if isinstance(said, Turn) else Turn(said)

    return turn


class StubVllm(HttpServer):
    """The server.

    Attributes:
        answered: the calls that were answered to the end and their tokens, by the request's `user`.
        requests: the bodies of all chat completions, in order of arrival.
        headers: their headers, names in lower case.
        next_turns: taken one by one, before `script` is asked.
        script: the turn of a request; replace it.
        hangs: completions are accepted and never answered, while /health stays 200.
        can_sleep: whether it falls asleep and wakes up on request.
        other_paths: the paths of all other requests, in order of arrival.
        prefix: of its counters' names.
        canary_status: what a plain completion, as a canary is one, is answered with.
        key: what it asks for under /v1 and at /tokenize, as `--api-key` has it; None for nothing.
        path: what a gateway puts before each of its paths.
        fingerprint: `system_fingerprint` of its plain completions.
        models: what it serves, as /v1/models lists it.
    """

    def __init__(self, block_size: int = 16, *, caching: bool = True) -> None:
        self.block_size, self.caching = block_size, caching
        self.cache = StubCache(block_size)
        self.counts: Counter[str] = Counter()
        self.answered: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.requests: list[dict[str, Any]] = []
        self.next_turns: deque[Turn] = deque()
        self.script: Callable[[Mapping[str, Any]], Turn] = by_node()
        self.hangs = False
        self.canary_status = 200
        self.prefix = "vllm:"
        self.can_sleep = False
        self.other_paths: list[str] = []
        self.key: str | None = None
        self.path = ""
        self.fingerprint: Any = None
        self.models: list[dict[str, Any]] = [{"id": "stub", "root": "/models/stub", "max_model_len": 8192}]
        super().__init__()

    @property
    def endpoint(self) -> str:
        """The address with the gateway's path."""
        return self.url + self.path

    @property
    def headers(self) -> list[dict[str, str]]:
        """The headers of each call, in order of arrival."""
        return [headers for path, headers in self.heard if path == f"{self.path}/v1/chat/completions"]

    async def answer(self, path: str, content: bytes, writer: asyncio.StreamWriter) -> None:
        """Answer as vLLM does."""
        if not path.startswith(self.path):
            await send(writer, 404, "{}")
            return
        path = path.removeprefix(self.path)
        given = self.heard[-1][1].get("authorization")
        if self.key and path.startswith(("/v1", "/tokenize")) and given != f"Bearer {self.key}":
            await send(writer, 401, '{"error": "Unauthorized"}')
            return
        body = json.loads(content or b"{}")
        if path == "/v1/chat/completions":
            await self._chat(body, writer)
            return
        if path == "/v1/completions" and self.hangs:
            await asyncio.Event().wait()
        self.other_paths.append(path)
        answers: dict[str, Any] = {
            "/v1/completions": {
                "choices": [{"index": 0, "text": "!", "finish_reason": "length"}],
                "system_fingerprint": self.fingerprint,
            },
            "/v1/models": {"data": self.models},
            "/version": {"version": "0.32.0"},
            "/health": {},
            **({f"/{step}": {"status": step} for step in ("sleep", "wake_up")} if self.can_sleep else {}),
            "/tokenize": {"count": len(pieces(body.get("prompt", "")) or prompt_ids(body.get("messages", [])))},
            "/metrics": exposition(self.counts, self.block_size, caching=self.caching, prefix=self.prefix),
        }
        if path == "/v1/completions" and self.canary_status != 200:
            await send(writer, self.canary_status, "{}")
            return
        found = answers.get(path)
        # Prometheus 3 takes nothing that does not say what it is.
        kind = {"Content-Type": "text/plain; version=0.0.4"} if path == "/metrics" else {}
        await send(writer, 404 if found is None else 200, found if isinstance(found, str) else json.dumps(found), kind)

    async def _chat(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        self.requests.append(body)
        turn = self.next_turns.popleft() if self.next_turns else self.script(body)
        if self.hangs or (turn.after == 0 and turn.then == "hang"):
            await asyncio.Event().wait()
        if turn.after == 0 and turn.then in {"cut", "reset"}:
            writer.transport.abort()
            raise ConnectionResetError
        if turn.status != 200:
            error = {"error": {"message": turn.message, "type": "Error", "param": None, "code": turn.status}}
            await send(writer, turn.status, json.dumps(error), turn.headers)
            return
        if body.get("stream"):
            await self._stream(body, turn, writer)
        else:
            await self._whole(body, turn, writer)

    async def _whole(self, body: dict[str, Any], turn: Turn, writer: asyncio.StreamWriter) -> None:
        salt, prompt = body.get("cache_salt", ""), prompt_ids(body["messages"])
        cached = self.cache.arrive(prompt, salt) if self.caching else 0
        self.counts.update(prompt=len(prompt), **({"queries": len(prompt), "hits": cached} if self.caching else {}))
        text = natural_reply(body) if turn.text is None else turn.text
        reply = [*token_ids(text), END][: body["max_tokens"]]
        self.cache.leave(prompt, reply, salt)
        self.counts.update(generation=len(reply), success=1)
        has_ids = body.get("return_token_ids", False)
        message = {"role": "assistant", "content": "".join(pieces(text)[: len(reply)])}
        reason = "stop" if reply[-1] == END else "length"
        choice = {"index": 0, "message": message, "finish_reason": reason, "token_ids": reply if has_ids else None}
        usage = {"prompt_tokens": len(prompt), "completion_tokens": len(reply)}
        details = {"total_tokens": len(prompt) + len(reply), "prompt_tokens_details": {"cached_tokens": cached}}
        answer = {
            **_chunk([choice]),
            "id": f"chatcmpl-{len(self.requests)}",
            "object": "chat.completion",
            "usage": {**usage, **details},
            "prompt_token_ids": prompt if has_ids else None,
        }
        await send(writer, 200, json.dumps(answer), {"Content-Type": "application/json"})

    async def _stream(self, body: dict[str, Any], turn: Turn, writer: asyncio.StreamWriter) -> None:
        salt, prompt = body.get("cache_salt", ""), prompt_ids(body["messages"])
        cached = self.cache.arrive(prompt, salt) if self.caching else 0
        self.counts.update(prompt=len(prompt), **({"queries": len(prompt), "hits": cached} if self.caching else {}))
        await asyncio.sleep(turn.seconds)
        text = natural_reply(body) if turn.text is None else turn.text
        reported = [*zip(pieces(text), token_ids(text), strict=True), ("", END)]
        limit = min(len(reported), body["max_tokens"]) if turn.obeys else len(reported)
        has_ids = turn.has_ids and body.get("return_token_ids", False)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        opening = _choice({"role": "assistant", "content": ""}, None)
        await _event(writer, {**_chunk([opening]), "prompt_token_ids": prompt if has_ids else None})
        for sent, (content, token) in enumerate(reported[:limit]):
            if sent == turn.after and await _fail(turn, writer):
                return
            reason = None if sent + 1 < limit else turn.ends or ("stop" if token == END else "length")
            await _event(writer, _chunk([_choice({"content": content}, reason, [token] if has_ids else None)]))
        self.cache.leave(prompt, [token for _, token in reported[:limit]], salt)
        self.counts.update(generation=limit, success=1)
        self.answered[body.get("user", "")].update(calls=1, prompt=len(prompt), cached=cached, completion=limit)
        if turn.then != "no_usage":
            usage = {"prompt_tokens": len(prompt), "completion_tokens": limit, "total_tokens": len(prompt) + limit}
            details = {"cached_tokens": cached, "created_cache_tokens": 0}
            reported = {**usage, "prompt_tokens_details": details, **turn.usage}
            usage = {name: value for name, value in reported.items() if value is not ...}
            await _event(writer, {**_chunk([]), "usage": usage})
        await frame(writer, b"data: [DONE]\n\n")
        await frame(writer, b"")


async def _fail(turn: Turn, writer: asyncio.StreamWriter) -> bool:
    """Do what goes wrong in mid-stream; return whether the answer has ended with it."""
    if turn.then == "hang":
        await asyncio.sleep(3600)  # a task that waits for nothing may be collected
    if turn.then == "cut":
        raise ConnectionResetError  # the connection is closed without the last frame
    if turn.then == "reset":
        writer.transport.abort()
        raise ConnectionResetError
    if turn.then == "garbage":
        await frame(writer, f"data: {turn.garbage}\n\n".encode())
    if turn.then == "error":
        await _event(writer, {"error": {"message": "EngineCore died", "type": "InternalServerError", "code": 500}})
    if turn.then in {"end", "error", "garbage"}:
        await frame(writer, b"")
    return turn.then in {"end", "error", "garbage"}


def _chunk(choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "stub", "choices": choices}


def _choice(delta: dict[str, str], finish_reason: str | None, ids: list[int] | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason, "token_ids": ids}


async def _event(writer: asyncio.StreamWriter, value: dict[str, Any]) -> None:
    await frame(writer, f"data: {json.dumps(value)}\n\n".encode())

"""Streamed LLM calls: metered, limited in time and size; every failure has a reason from a closed set."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import httpx2
import openai
from pydantic import BaseModel, ValidationError

from exporter.agent.instruments import OTHER
from exporter.agent.llm_failures import reason_of
from exporter.agent.usage import Usage
from workload.agent.backoff import Backoff, Breaker, retry_after_seconds
from workload.agent.prompts import REPAIR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workload.agent.calls import CallMeter
    from workload.agent.metering import QuestionMeter
    from workload.engine.message import Message

# A reply has at most some hundred tokens; a server that streams more text or token ids than this is cut off.
MAX_REPLY_CHARS = 65_536
MAX_REPAIRS = 1
# Chunks are not validated, so a malformed one fails only when it is used.
MALFORMED = (ValueError, TypeError, AttributeError, LookupError, OverflowError, RecursionError)
OVERLOADED = "overloaded"

ReplyT = TypeVar("ReplyT", bound=BaseModel)
CONNECT_TIMEOUT_SECONDS = 5.0
# vLLM closes a connection after 5 s without a request (VLLM_HTTP_TIMEOUT_KEEP_ALIVE); no call may start at that moment.
KEEP_ALIVE_SECONDS = 4.0
MAX_CONNECTIONS = 1024


class LlmError(Exception):
    """A call failed. `reason` is one of `exporter.agent.instruments.ERROR_REASONS`; the server's text is not kept.

    `retry_after` is the wait in seconds that the server asked for when it refused the call, None if it asked for none.
    """

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


@dataclass
class _Stream:
    """The content of a stream so far."""

    text: list[str] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    chars: int = 0
    finish_reason: str | None = None
    usage: Any = None

    def take(self, chunk: Any, meter: CallMeter) -> None:
        if (prompt_ids := chunk.get("prompt_token_ids")) is not None:
            meter.prompt_ids(prompt_ids)
        meter.fingerprint = chunk.get("system_fingerprint")
        self.usage = chunk.get("usage") or self.usage
        for choice in chunk["choices"]:
            ids = choice.get("token_ids") or ()
            content = choice["delta"].get("content") or ""
            if content or ids:
                meter.chunk()
            self.ids.extend(ids)
            self.text.append(content)
            self.chars += len(content)
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
        if max(self.chars, len(self.ids)) > MAX_REPLY_CHARS:
            raise LlmError("oversized")

    def end(self) -> tuple[Usage, str]:
        """Return usage and text; a stream without finish reason or usage was cut, however many tokens it contained."""
        if self.finish_reason is None or self.usage is None:
            raise LlmError("stream_cut")
        details = self.usage.get("prompt_tokens_details") or {}
        usage = Usage(
            prompt_tokens=self.usage["prompt_tokens"],
            completion_tokens=self.usage["completion_tokens"],
            cached_tokens=details.get("cached_tokens"),
            finish_reason=self.finish_reason,
        )
        # A lone surrogate would break every later encoder: the next request, the journal, the terminal.
        return usage, "".join(self.text).encode("utf-8", "replace").decode()


@dataclass(frozen=True)
class Llm:
    """The language model behind an OpenAI-compatible endpoint.

    Args:
        client: must not retry by itself (`max_retries=0`): a hidden retry would count the time of a call twice.
        timeout_seconds: the time limit of a whole call, stream included.
        has_token_ids: whether the server supports `return_token_ids` (vLLM from 0.10.2).
        has_cache_salt: whether it supports `cache_salt` (vLLM from 0.9).
        seed: sampling seed; the temperature is 0.
        backoff: the waits before a call that was refused for load (429, 503) is sent again.
        breaker: stops all calls after too many consecutive refusals.
    """

    client: openai.AsyncOpenAI
    model: str
    _: KW_ONLY
    timeout_seconds: float = 120.0
    has_token_ids: bool = True
    has_cache_salt: bool = True
    seed: int = 0
    backoff: Backoff = field(default_factory=Backoff)
    breaker: Breaker = field(default_factory=Breaker)

    async def complete(
        self,
        question: QuestionMeter,
        node: str,
        hop: int,
        messages: Sequence[Message],
        max_tokens: int,
        *,
        schema: type[BaseModel] | None = None,
    ) -> str:
        """Return the reply's text; with `schema`, decoding is guided by its JSON schema.

        Raises:
            LlmError: the call failed; it has been counted by reason.
        """
        guide = {"response_format": response_format(schema)} if schema else {}
        return await self._call(question, node, hop, messages, max_tokens, **guide)

    async def compute(
        self, question: QuestionMeter, node: str, hop: int, messages: Sequence[Message], tokens: int
    ) -> str:
        """Return a reply of exactly `tokens` tokens: the call is made for its timing, not for its text.

        Raises:
            LlmError: the call failed; it has been counted by reason.
        """
        return await self._call(question, node, hop, messages, tokens, ignore_eos=True)

    async def _call(
        self, question: QuestionMeter, node: str, hop: int, messages: Sequence[Message], max_tokens: int, **options: Any
    ) -> str:
        body = {
            "model": self.model,
            "messages": messages,
            "max_tokens": max_tokens,
            "temperature": 0,
            "seed": self.seed,
            "stream": True,
            "stream_options": {"include_usage": True},
            **options,
        }
        if self.has_token_ids:
            body["return_token_ids"] = True
        if question.salt and self.has_cache_salt:
            body["cache_salt"] = question.salt
        retry = 0
        while not self.breaker.is_open:
            try:
                text = await self._attempt(question, node, hop, retry, body)
            except LlmError as error:
                if error.reason != OVERLOADED:
                    raise
                self.breaker.refused()
                retry += 1
                seconds = self.backoff.seconds(retry, error.retry_after)
                if seconds is None:
                    raise
                await self.backoff.sleep(seconds)
            else:
                self.breaker.answered()
                return text
        raise LlmError(OVERLOADED)

    async def _attempt(self, question: QuestionMeter, node: str, hop: int, retry: int, body: dict[str, Any]) -> str:
        with question.call(node, hop, retry) as meter:
            try:
                async with asyncio.timeout(self.timeout_seconds):
                    text = await self._stream(meter, body | meter.request_fields)
            except LlmError as error:
                meter.reason = error.reason
                raise
            except (openai.OpenAIError, httpx2.HTTPError, OSError) as error:
                reason = reason_of(error, has_begun=meter.ttft is not None)
                meter.reason = "server_error" if reason == OTHER else reason
                headers = error.response.headers if isinstance(error, openai.APIStatusError) else {}
                raise LlmError(meter.reason, retry_after_seconds(headers.get("retry-after"))) from error
            meter.said(body["messages"], text)
            return text

    async def reply(
        self,
        question: QuestionMeter,
        node: str,
        hop: int,
        messages: Sequence[Message],
        max_tokens: int,
        *,
        schema: type[ReplyT],
    ) -> tuple[ReplyT | None, str]:
        """Return the parsed reply and its text; None and the last text if no reply could be parsed.

        A reply that is not the requested JSON is requested again at most `MAX_REPAIRS` times; each repair is counted.

        Raises:
            LlmError: a call failed.
        """
        asked = list(messages)
        for attempt in range(MAX_REPAIRS + 1):
            if attempt:
                metrics = question.recorder.metrics
                metrics.json_repairs.labels(metrics.llm_node(node)).inc()
            text = await self.complete(question, node, hop, asked, max_tokens, schema=schema)
            try:
                return schema.model_validate_json(text), text
            except (ValidationError, RecursionError):
                asked += [{"role": "assistant", "content": text}, {"role": "user", "content": REPAIR}]
        return None, text

    async def _stream(self, meter: CallMeter, body: dict[str, Any]) -> str:
        # The client's typed method would validate each request and build a model of each chunk: half the CPU of a call.
        stream = await self.client.post(
            "/chat/completions",
            cast_to=object,
            body=body,
            options={"headers": meter.trace_headers(self.model)},
            stream=True,
            stream_cls=openai.AsyncStream[object],
        )
        received = _Stream()
        try:
            async with stream:
                async for chunk in stream:
                    received.take(chunk, meter)
            usage, text = received.end()
            meter.finished(usage, received.ids)
        except MALFORMED as error:
            raise LlmError("server_error") from error
        return text


def response_format(schema: type[BaseModel]) -> dict[str, Any]:
    """Return the request field that guides decoding by the JSON schema of a reply."""
    return {
        "type": "json_schema",
        "json_schema": {"name": schema.__name__, "schema": schema.model_json_schema(), "strict": True},
    }


def llm_client(endpoint: str, timeout_seconds: float, key: str | None = None) -> openai.AsyncOpenAI:
    """Return a client of the engine at `endpoint` that never retries by itself; `key` is the engine's API key.

    It uses aiohttp: the default transport probes every idle connection before each call, which doubles the CPU time of
    a call at 64 concurrent calls (benchmarks/README.md). As in `engine.endpoint`, a proxy would be measured too, and a
    redirect would leave the checked endpoint.
    """
    return openai.AsyncOpenAI(
        base_url=f"{endpoint}/v1",
        api_key=key or "none",
        max_retries=0,
        timeout=openai.Timeout(timeout_seconds, connect=CONNECT_TIMEOUT_SECONDS),
        http_client=openai.DefaultAioHttpClient(
            verify=ssl.create_default_context(),  # as in `services.limits`: SSL_CERT_FILE names other authorities
            trust_env=False,
            follow_redirects=False,
            limits=httpx2.Limits(max_connections=MAX_CONNECTIONS, keepalive_expiry=KEEP_ALIVE_SECONDS),
        ),
    )

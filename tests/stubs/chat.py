"""A chat model of LangChain that speaks to a vLLM server, real or stubbed, as `ChatOpenAI` does."""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING, Any, Self

import httpx
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage, convert_to_openai_messages
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

PREFIX = "data: "
PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the server speaks plain HTTP; loading certificates takes 20 ms
SECONDS = 60.0


class RefusedError(ConnectionError):
    """The server answered with an error."""

    def __init__(self, status: int) -> None:
        super().__init__(f"Error code: {status}")
        self.status_code = status


class VllmChat(BaseChatModel):
    """The model; it always streams from the server, and to LangChain if `is_streaming`.

    Attributes:
        url: the server.
        served: the served model.
        user: who asks, so that the server can count by it.
        tool: the tool that is called before the first answer.
        max_tokens: of a reply.
        is_streaming: whether a plain call streams, as of an OpenAI model with `streaming=True`.
    """

    url: str
    served: str = "stub"
    user: str = ""
    tool: str = ""
    max_tokens: int = 6
    is_streaming: bool = True

    @property
    def _llm_type(self) -> str:
        return "vllm"

    def _should_stream(self, **_: Any) -> bool:
        return self.is_streaming

    def bind_tools(self, *_: Any, **__: Any) -> Self:
        """Accept tools, whose schema the server does not get."""
        return self

    def _request(self, messages: list[BaseMessage]) -> dict[str, Any]:
        body = {
            "model": self.served,
            "messages": [
                {"role": message["role"], "content": message["content"] or "-"}
                for message in convert_to_openai_messages([m for m in messages if not isinstance(m, ToolMessage)])
            ],
            "max_tokens": self.max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            "user": self.user,
        }
        return {"method": "POST", "url": f"{self.url}/v1/chat/completions", "json": body}

    def _stream(self, messages: list[BaseMessage], *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
        client = httpx.Client(verify=PLAIN, trust_env=False, timeout=SECONDS)
        with client, client.stream(**self._request(messages)) as response:
            refuse(response)
            yield from (chunk_of(line) for line in response.iter_lines() if is_event(line))
        yield from self._tool_calls(messages)

    async def _astream(self, messages: list[BaseMessage], *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
        client = httpx.AsyncClient(verify=PLAIN, trust_env=False, timeout=SECONDS)
        async with client, client.stream(**self._request(messages)) as response:
            refuse(response)
            async for line in response.aiter_lines():
                if is_event(line):
                    yield chunk_of(line)
        for chunk in self._tool_calls(messages):
            yield chunk

    def _tool_calls(self, messages: list[BaseMessage]) -> Iterator[ChatGenerationChunk]:
        if self.tool and not any(isinstance(message, ToolMessage) for message in messages):
            call = tool_call_chunk(name=self.tool, args='{"text": "?"}', id="call-1", index=0)
            yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=[call]))

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return whole(list(self._stream(messages)))

    async def _agenerate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return whole([chunk async for chunk in self._astream(messages)])


def refuse(response: httpx.Response) -> None:
    """Raise the server's error, if it answered with one."""
    if response.status_code != 200:
        raise RefusedError(response.status_code)


def is_event(line: str) -> bool:
    """Return whether a line is an event with a chunk."""
    return line.startswith(PREFIX) and not line.endswith("[DONE]")


def chunk_of(line: str) -> ChatGenerationChunk:
    """Return the chunk of an event, as langchain-openai makes it: without the reasoning."""
    event = json.loads(line.removeprefix(PREFIX))
    choice = (event["choices"] or [{"delta": {}, "finish_reason": None}])[0]
    reason = choice["finish_reason"]
    return ChatGenerationChunk(
        message=AIMessageChunk(
            content=choice["delta"].get("content") or "", usage_metadata=usage_metadata(event.get("usage"))
        ),
        generation_info={"finish_reason": reason} if reason else None,
    )


def usage_metadata(usage: Any) -> Any:
    """Return a server's usage as LangChain has it."""
    if not usage:
        return None
    details = usage.get("prompt_tokens_details")
    return {
        "input_tokens": usage["prompt_tokens"],
        "output_tokens": usage["completion_tokens"],
        "total_tokens": usage["total_tokens"],
        **({"input_token_details": {"cache_read": details["cached_tokens"]}} if details else {}),
    }


def whole(chunks: list[ChatGenerationChunk]) -> ChatResult:
    """Return the result of chunks."""
    message = sum((chunk.message for chunk in chunks[1:]), chunks[0].message)
    fields = {"content": message.content, "usage_metadata": message.usage_metadata, "tool_calls": message.tool_calls}
    return ChatResult(generations=[ChatGeneration(message=AIMessage(**fields))])

"""Reads the replies that model libraries report: first tokens, and the server's count of tokens in every dialect.

The count is a message's `usage_metadata`, whose `input_token_details.cache_read` is vLLM's
`usage.prompt_tokens_details.cached_tokens`; older libraries and completion models pass on OpenAI's `usage` itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from exporter.agent.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.outputs import LLMResult

    from exporter.agent.recorder import LlmCall

REASONING = ("reasoning", "reasoning_content", "thinking")
USAGE = ("token_usage", "usage", "usage_metadata")
# A stream's opening chunk, with the role, is empty; of any other empty chunk the library has dropped the content.
OPENING_CHUNKS = 1


class Reply:
    """The reply of one LLM call, as far as it has arrived; it sets the call's first tokens and usage."""

    def __init__(self) -> None:
        self._is_streamed = False
        self._is_reasoned = False
        self._empty_chunks = 0
        self._contents = 0
        self._first_answer: float | None = None
        self._usages: list[tuple[bool, Mapping[str, Any]]] = []  # of a chunk: whether it has content, and its usage

    def add(self, call: LlmCall, token: Any, chunk: Any) -> None:
        """Add a chunk of the stream."""
        self._is_streamed = True
        message = getattr(chunk, "message", None)
        answers, reasons = has_answer(token, message), has_reasoning(message)
        self._contents += answers or reasons
        if usage := getattr(message, "usage_metadata", None):
            self._usages.append((answers or reasons, usage))
        if reasons:
            self._reason(call)
        if answers:
            self._answer(call)
        elif not (reasons or usage or is_last(chunk, message)):
            self._empty_chunks += 1

    def add_event(self, call: LlmCall, event: Mapping[str, Any]) -> None:
        """Add an event of LangChain's streaming protocol, in which some models stream instead of in chunks."""
        delta = event.get("delta") if event.get("event") == "content-block-delta" else None
        if not delta:
            return
        if any(delta.get(name) for name in REASONING):
            self._reason(call)
        elif any(value for name, value in delta.items() if name != "type"):
            self._answer(call)

    def end(self, call: LlmCall, response: LLMResult) -> None:
        """Add the whole reply: set the call's usage, None if the response has none.

        Raises:
            ValueError: a count is impossible.
        """
        call.usage = self._usage_of_chunks() if len(self._usages) > 1 else usage_of(response)
        # LangChain reports the usage of a batch of completions with the first of them
        call.is_counted_elsewhere = (response.llm_output or {}).get("token_usage") == {} and not self._is_streamed
        if self._is_reasoned:
            call.first_answer = self._first_answer

    def _reason(self, call: LlmCall) -> None:
        call.first_token()
        self._is_reasoned = True

    def _answer(self, call: LlmCall) -> None:
        if self._first_answer is None:
            self._first_answer = call.elapsed()
            is_hidden = self._empty_chunks > OPENING_CHUNKS and not self._is_reasoned
            self._is_reasoned |= is_hidden  # the first token is unknown, because the library drops the reasoning
        if not self._is_reasoned:
            call.first_token()

    def _usage_of_chunks(self) -> Usage | None:
        """Return the usage of a stream that contains it more than once.

        The prompt is repeated, or in one chunk only. The completion is counted up to each chunk, and then it grows with
        each chunk that has content; or chunk by chunk.
        """
        usages = [usage for _, usage in self._usages]
        prompts = [prompt for usage in usages if (prompt := count_of(usage, "input_tokens", "prompt_tokens"))]
        if not prompts:
            return None
        counts = [count_of(usage, "output_tokens", "completion_tokens") or 0 for usage in usages]
        of_contents = [count for count, (has_content, _) in zip(counts, self._usages, strict=True) if has_content]
        is_cumulative = (
            all(before <= after for before, after in pairwise(counts))
            and all(before < after for before, after in pairwise(of_contents))
            and counts[-1] >= self._contents
        )
        cached = [tokens for usage in usages if (tokens := cached_of(usage)) is not None]
        return Usage(max(prompts), counts[-1] if is_cumulative else sum(counts), max(cached, default=None))


def has_answer(token: Any, message: Any) -> bool:
    """Return whether a chunk carries text or a tool call of the answer."""
    if message is None:
        return bool(token)
    content = message.content
    blocks = [content] if isinstance(content, str) else content
    further = getattr(message, "additional_kwargs", None) or {}
    return (
        any(block if isinstance(block, str) else _is_answer(block) for block in blocks)
        or any(value for name, value in further.items() if name not in REASONING)
        or bool(getattr(message, "tool_call_chunks", None))
    )


def _is_answer(block: Mapping[str, Any]) -> bool:
    is_reasoning = str(block.get("type", "")).startswith(REASONING)
    return not is_reasoning and any(value for name, value in block.items() if name not in {"type", "index", "id"})


def has_reasoning(message: Any) -> bool:
    """Return whether a chunk carries reasoning, in a field of its own or in a block of its content."""
    if any((getattr(message, "additional_kwargs", None) or {}).get(name) for name in REASONING):
        return True
    content = getattr(message, "content", None)
    blocks = content if isinstance(content, list) else []
    return any(isinstance(block, Mapping) and any(block.get(name) for name in REASONING) for block in blocks)


def is_last(chunk: Any, message: Any) -> bool:
    """Return whether a chunk ends a stream."""
    facts = {**(getattr(message, "response_metadata", None) or {}), **(getattr(chunk, "generation_info", None) or {})}
    return bool(facts.get("finish_reason")) or getattr(message, "chunk_position", None) == "last"


def is_from_client_cache(response: LLMResult) -> bool:
    """Return whether LangChain answered from its own cache, which marks the reply as free of charge."""
    message = getattr(_first(response), "message", None)
    return (getattr(message, "usage_metadata", None) or {}).get("total_cost") == 0


def usage_of(response: LLMResult) -> Usage | None:
    """Return the tokens of a call, None if the response does not contain them.

    Raises:
        ValueError: a count is impossible.
    """
    for usage in _usages(response):
        prompt = count_of(usage, "input_tokens", "prompt_tokens")
        if prompt:  # no prompt is empty: a server that reports 0 does not count
            return Usage(prompt, count_of(usage, "output_tokens", "completion_tokens") or 0, cached_of(usage))
    return None


def _usages(response: LLMResult) -> Iterator[Mapping[str, Any]]:
    generation = _first(response)
    message = getattr(generation, "message", None)
    if usage := getattr(message, "usage_metadata", None):
        yield usage
    for facts in (
        getattr(message, "response_metadata", None),
        getattr(generation, "generation_info", None),
        response.llm_output,
    ):
        found = ((facts or {}).get(name) for name in USAGE)
        yield from (usage for usage in found if isinstance(usage, Mapping))


def _first(response: LLMResult) -> Any:
    return next((generation for generations in response.generations for generation in generations), None)


def count_of(usage: Mapping[str, Any], *names: str) -> Any:
    """Return the first count under these names, None if there is none; `Usage` checks what it is."""
    return next((usage[name] for name in names if usage.get(name) is not None), None)


def cached_of(usage: Mapping[str, Any]) -> Any:
    """Return the prompt tokens that the server had cached, None if it does not report them."""
    details = usage.get("input_token_details") or usage.get("prompt_tokens_details") or {}
    return count_of(details, "cache_read", "cached_tokens")

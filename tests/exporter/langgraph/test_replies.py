"""Replies in every dialect of model libraries: first tokens and usage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation, LLMResult

from exporter.agent.usage import Usage
from exporter.langgraph import MeteringHandler
from exporter.langgraph.replies import usage_of

if TYPE_CHECKING:
    from tests.exporter.conftest import FakeTime


def counts(prompt: int | None, completion: int | None, cached: int | None = None) -> dict[str, Any]:
    """Return usage as LangChain has it."""
    details = {"input_token_details": {"cache_read": cached}} if cached is not None else {}
    total = (prompt or 0) + (completion or 0)
    return {"input_tokens": prompt, "output_tokens": completion, "total_tokens": total, **details}


def chunk(content: Any = "", usage: Any = None, end: str | None = None, **further: Any) -> ChatGenerationChunk:
    """Return a chunk of a stream."""
    message = AIMessageChunk(content=content, usage_metadata=usage, **further)
    return ChatGenerationChunk(message=message, generation_info={"finish_reason": end} if end else None)


OPENING, LAST = chunk(), chunk(end="stop")


class Streams:
    """A model that streams chunks a second apart, under a handler."""

    def __init__(self, clock: FakeTime) -> None:
        self.handler = MeteringHandler(clock=clock.monotonic)
        self.clock = clock

    def take(self, *chunks: ChatGenerationChunk) -> None:
        """Stream chunks, and end as LangChain does: with their sum."""
        run_id = uuid4()
        self.handler.on_chat_model_start({}, [], run_id=run_id, metadata={"langgraph_node": "speak"})
        for piece in chunks:
            self.clock.now += 1
            self.handler.on_llm_new_token(piece.message.content, run_id=run_id, chunk=piece)
        whole = sum((piece.message for piece in chunks[1:]), chunks[0].message)
        self.handler.on_llm_end(LLMResult(generations=[[ChatGeneration(message=whole)]]), run_id=run_id)

    def value(self, name: str, **labels: str) -> float | None:
        """Return a sample of the node."""
        return self.handler.registry.get_sample_value(f"hop2rag_{name}", {"node": "speak", **labels})

    def tokens(self) -> tuple[float | None, ...]:
        """Return prompt, cached and completion tokens."""
        names = ("prompt", "cached_prompt", "completion")
        return tuple(self.value(f"{name}_tokens_total", hop="1") for name in names)


@pytest.fixture
def streams(fake_time: FakeTime) -> Streams:
    """Return a model on a clock that moves a second with each chunk."""
    return Streams(fake_time)


def test_usage_on_every_chunk_is_the_last_one(streams: Streams) -> None:
    """With `continuous_usage_stats` vLLM counts up, which LangChain adds up: to eight prompts in one."""
    pieces = [chunk(str(number), counts(100, number, 64)) for number in range(1, 6)]
    streams.take(chunk(usage=counts(100, 0, 64)), *pieces, chunk(usage=counts(100, 5, 64), end="stop"))
    assert streams.tokens() == (100, 64, 5)


@pytest.mark.parametrize("each", [1, 10])
def test_usage_of_each_chunk_alone_is_added_up(streams: Streams, each: int) -> None:
    """A proxy that counts chunk by chunk repeats its number while text keeps coming."""
    streams.take(OPENING, *(chunk(text, counts(100, each)) for text in "abc"), LAST)
    assert streams.tokens() == (100, None, 3 * each)


def test_a_prompt_in_the_first_chunk_and_a_completion_in_the_last_are_one_usage(streams: Streams) -> None:
    """Anthropic's dialect, which vLLM speaks too, has them in two events."""
    streams.take(chunk(usage=counts(100, 0)), chunk("a"), chunk("b"), chunk(usage=counts(0, 2), end="stop"))
    assert streams.tokens() == (100, None, 2)


def test_the_same_usage_twice_is_one_usage(streams: Streams) -> None:
    """Some gateways repeat the last chunk."""
    last = chunk(usage=counts(100, 2, 0))
    streams.take(OPENING, chunk("a"), chunk("b"), last, last)
    assert streams.tokens() == (100, 0, 2)


def test_more_cached_tokens_than_the_prompt_has_are_refused(streams: Streams) -> None:
    """A hit rate above 100 % is a bug of somebody; here it must not become a panel."""
    streams.take(OPENING, chunk("a"), chunk(usage=counts(10, 1, 64)))
    assert streams.tokens() == (0, None, 0)
    assert streams.handler.registry.get_sample_value("hop2rag_metering_failures_total") == 1


REASONING = (
    chunk(additional_kwargs={"reasoning_content": "hm"}),
    chunk(additional_kwargs={"reasoning": "hm"}),
    chunk([{"type": "thinking", "thinking": "hm", "index": 0}]),
    chunk([{"type": "reasoning", "reasoning": "hm", "index": 0}]),
)


@pytest.mark.parametrize("thought", REASONING)
def test_reasoning_is_the_first_token(streams: Streams, thought: ChatGenerationChunk) -> None:
    """A user of a thinking model waits for the answer, the engine's first token comes long before it."""
    streams.take(OPENING, thought, thought, chunk("a", counts(10, 3)), LAST)
    assert streams.value("llm_time_to_first_token_seconds_sum") == 2
    assert streams.value("llm_time_to_first_answer_token_seconds_sum") == 4


def test_reasoning_that_the_library_hides_leaves_the_first_token_unknown(streams: Streams) -> None:
    """langchain-openai drops the field: only empty chunks show that the first text is not the first token."""
    streams.take(OPENING, chunk(), chunk(), chunk("a", counts(10, 3)), LAST)
    assert streams.value("llm_time_to_first_token_seconds_count") is None
    assert streams.value("llm_time_to_first_answer_token_seconds_sum") == 4


def test_a_model_that_does_not_reason_has_one_first_token(streams: Streams) -> None:
    """The opening chunk is empty, and so is an empty block in it."""
    streams.take(
        chunk([{"type": "text", "text": "", "index": 0}], additional_kwargs={"refusal": None}), chunk("a"), LAST
    )
    assert streams.value("llm_time_to_first_token_seconds_sum") == 2
    assert streams.value("llm_time_to_first_answer_token_seconds_count") is None


def test_a_tool_call_is_an_answer(streams: Streams) -> None:
    """A reply that only calls a tool has no text."""
    call = {"name": "search", "args": "", "id": "1", "index": 0, "type": "tool_call_chunk"}
    streams.take(OPENING, chunk(tool_call_chunks=[call]), LAST)
    assert streams.value("llm_time_to_first_token_seconds_sum") == 2


@pytest.mark.parametrize(("delta", "names"), [("text", ("first_token",)), ("reasoning", ("first_token",))])
def test_the_streaming_protocol_has_first_tokens_too(streams: Streams, delta: str, names: tuple[str, ...]) -> None:
    """`stream_events(version="v3")` reports events in place of chunks."""
    run_id, handler = uuid4(), streams.handler
    handler.on_chat_model_start({}, [], run_id=run_id, metadata={"langgraph_node": "speak"})
    for event in (
        {"event": "message-start"},
        {"event": "content-block-start", "content": {"type": "text", "text": ""}},
        {"event": "content-block-delta", "delta": {"type": f"{delta}-delta", delta: "a"}},
    ):
        streams.clock.now += 1
        handler.on_stream_event(event, run_id=run_id)
    handler.on_llm_end(LLMResult(generations=[[]]), run_id=run_id)
    assert [streams.value(f"llm_time_to_{name}_seconds_sum") for name in names] == [3]


def reply(message: Any = None, output: Any = None, **info: Any) -> LLMResult:
    """Return a whole reply of a chat model, or of a completion model."""
    chosen = ChatGeneration(message=message) if message else Generation(text="a", generation_info=info)
    return LLMResult(generations=[[chosen]], llm_output=output)


OPENAI = {"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
MESSAGE = AIMessage(content="a", response_metadata={"token_usage": OPENAI})


@pytest.mark.parametrize(
    ("response", "usage"),
    [
        (reply(AIMessage(content="a", usage_metadata=counts(10, 2, 4))), Usage(10, 2, 4)),
        (reply(MESSAGE), Usage(10, 2, 4)),
        (reply(output={"token_usage": OPENAI}), Usage(10, 2, 4)),
        (reply(usage=OPENAI), Usage(10, 2, 4)),
        (reply(output={"token_usage": {**OPENAI, "prompt_tokens_details": None}}), Usage(10, 2)),
        (reply(output={"token_usage": {**OPENAI, "completion_tokens": None}}), Usage(10, 0, 4)),
        (reply(output={"token_usage": {"prompt_tokens": 0, "completion_tokens": 0}}), None),
        (reply(output={"token_usage": {}}), None),
        (reply(AIMessage(content="a")), None),
        (LLMResult(generations=[]), None),
    ],
)
def test_usage_is_found_in_every_dialect(response: LLMResult, usage: Usage | None) -> None:
    """Chat and completion models, old and new libraries; null stands for zero, and a prompt is never empty."""
    assert usage_of(response) == usage


def test_the_usage_of_a_batch_of_completions_is_counted_once(streams: Streams) -> None:
    """LangChain gives it to the first prompt and an empty one to the others, which are not without usage."""
    for usage in (OPENAI, {}):
        run_id = uuid4()
        streams.handler.on_llm_start({}, [], run_id=run_id, metadata={"langgraph_node": "speak"})
        streams.handler.on_llm_end(reply(output={"token_usage": usage}), run_id=run_id)
    assert streams.value("llm_call_duration_seconds_count") == 2
    assert streams.value("llm_calls_without_usage_total") == 0

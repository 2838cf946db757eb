"""One call against everything that a server can do: a text, or one reason from the closed set, in bounded time."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.agent.instruments import ERROR_REASONS
from tests.stubs.agent import Bench, bench, client_of
from tests.stubs.vllm import TOO_LONG, StubVllm, Turn
from workload.agent.llm import MAX_REPLY_CHARS, Llm, LlmError
from workload.agent.prompts import Clues

if TYPE_CHECKING:
    from collections.abc import Iterator

    import openai

    from workload.agent.metering import QuestionMeter
    from workload.engine.message import Message

ASKED: list[Message] = [{"role": "user", "content": "Who founded the Tin Choir?"}]
SHORT_SECONDS = 1.0


def question_of(measured: Bench) -> QuestionMeter:
    """Return a question's meter."""
    return measured.meter.question("0", "bridge", "salt")


async def ask(client: openai.AsyncOpenAI, question: QuestionMeter, timeout_seconds: float = 5.0) -> str:
    """Make one call."""
    return await Llm(client, "stub", timeout_seconds=timeout_seconds).complete(question, "generate", 2, ASKED, 32)


FAILURES = [
    ("row 9: 400, context too long", Turn(status=400, message=TOO_LONG), "context_too_long"),
    ("400, a bad parameter", Turn(status=400, message="Grammar error"), "rejected"),
    ("404, another model", Turn(status=404, message="The model `x` does not exist."), "rejected"),
    ("row 8: 503, come back in a minute", Turn(status=503, headers={"Retry-After": "60"}), "overloaded"),
    ("500", Turn(status=500, message=TOO_LONG), "server_error"),
    ("row 6: killed before the first byte", Turn(after=0, then="reset"), "connection"),
    ("row 6: killed in mid-stream", Turn(after=1, then="reset"), "stream_cut"),
    ("row 9: cut in mid-body", Turn(after=1, then="cut"), "stream_cut"),
    ("row 9: ended without a finish reason", Turn(after=1, then="end"), "stream_cut"),
    ("row 9: ended without usage", Turn(then="no_usage"), "stream_cut"),
    ("row 9: error inside a 200 stream, at once", Turn(after=0, then="error"), "server_error"),
    ("row 9: error inside a 200 stream, later", Turn(after=1, then="error"), "stream_cut"),
    ("a chunk that is not JSON", Turn(after=1, then="garbage"), "server_error"),
    ("row 7: hangs before the first byte", Turn(after=0, then="hang"), "timeout"),
    ("row 7: hangs in mid-stream", Turn(after=1, then="hang"), "timeout"),
    ("row 18: huge", Turn(("x" * 999 + " ") * 70, obeys=False), "oversized"),
]


@pytest.mark.parametrize(("turn", "reason"), [case[1:] for case in FAILURES], ids=[case[0] for case in FAILURES])
async def test_every_failure_has_a_reason(stub: StubVllm, client: openai.AsyncOpenAI, turn: Turn, reason: str) -> None:
    """A failure is asked once, is never a success with few tokens, and counts under one reason of a closed set."""
    stub.next_turns.append(turn)
    measured = bench()
    question = question_of(measured)
    with pytest.raises(LlmError) as raised:
        await ask(client, question, SHORT_SECONDS if reason == "timeout" else 5.0)
    assert raised.value.reason == reason
    assert reason in ERROR_REASONS
    assert len(stub.requests) == 1
    (call,) = question.calls
    assert (call["outcome"], call["reason"]) == ("failed", reason)
    assert measured.value("hop2rag_llm_errors_total", node="generate", reason=reason) == 1
    assert measured.value("hop2rag_prompt_tokens_total", node="generate", hop="2") == 0
    assert measured.value("hop2rag_reusable_prompt_tokens_total", node="generate", hop="2") in {None, 0}


async def test_nothing_listens() -> None:
    """The port of a dead engine refuses at once; that is no time-out."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    question = question_of(bench())
    async with client_of(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(LlmError, match="connection"):
            await ask(client, question)
    assert question.calls[0]["ttft_seconds"] is None


async def test_a_stopped_call_is_cancelled_and_not_failed_for_a_reason(
    stub: StubVllm, client: openai.AsyncOpenAI
) -> None:
    """Ctrl-C must not look like a server's fault, in the metric and in the journal alike."""
    stub.hangs = True
    measured = bench()
    question = question_of(measured)
    task = asyncio.create_task(ask(client, question))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert question.calls[0]["reason"] == "cancelled"
    assert measured.value("hop2rag_llm_errors_total", node="generate", reason="cancelled") == 1


async def test_a_good_call_says_what_the_server_said(stub: StubVllm, client: openai.AsyncOpenAI) -> None:
    """Tokens are the server's own count, cached ones included; the first token is timed from sending."""
    stub.next_turns.append(Turn("two words", seconds=0.05))
    measured = bench()
    question = question_of(measured)
    assert await ask(client, question) == "two words"
    (call,) = question.calls
    assert (call["outcome"], call["completion_tokens"], call["finish_reason"], call["reason"]) == (
        "ok",
        3,
        "stop",
        None,
    )
    assert call["prompt_tokens"] == stub.counts["prompt"]
    assert (call["cached_tokens"], call["reusable_tokens"]) == (0, 0)
    assert 0.05 <= call["ttft_seconds"] <= call["duration_seconds"]
    assert measured.value("hop2rag_prompt_tokens_total", node="generate", hop="2") == call["prompt_tokens"]
    (body,) = stub.requests
    assert (body["cache_salt"], body["temperature"], body["stream_options"]) == ("salt", 0, {"include_usage": True})


async def test_a_server_that_reports_no_ids_has_no_bound(stub: StubVllm, client: openai.AsyncOpenAI) -> None:
    """Releases before 0.10.2 know no `return_token_ids`; its bound is unknown, and unknown is not zero."""
    stub.next_turns.append(Turn(has_ids=False))
    measured = bench()
    question = question_of(measured)
    await ask(client, question)
    assert "reusable_tokens" not in question.calls[0]
    assert measured.value("hop2rag_reusable_prompt_tokens_total", node="generate", hop="2") is None


async def test_an_answer_cut_by_max_tokens_is_no_failure(stub: StubVllm, client: openai.AsyncOpenAI) -> None:
    """The server ended it in order and counted it; only a stream without an end is cut."""
    stub.next_turns.append(Turn("word " * 100))
    question = question_of(bench())
    await ask(client, question)
    assert (question.calls[0]["finish_reason"], question.calls[0]["completion_tokens"]) == ("length", 32)


async def test_row_18_a_lone_surrogate_does_no_harm(stub: StubVllm, client: openai.AsyncOpenAI) -> None:
    """Half a character breaks whatever encodes it next: the following request, the journal, the terminal."""
    stub.next_turns.append(Turn("ab \ud800 \udfff", obeys=False))
    assert await ask(client, question_of(bench())) == "ab ? ?"


async def test_row_18_much_text_below_the_limit_is_kept(stub: StubVllm, client: openai.AsyncOpenAI) -> None:
    """The limit stops a runaway server; a long answer is still an answer."""
    text = ("x" * 999 + " ") * (MAX_REPLY_CHARS // 1000)
    stub.next_turns.append(Turn(text, obeys=False))
    assert await ask(client, question_of(bench())) == text


@pytest.fixture(scope="module")
def lasting() -> Iterator[StubVllm]:
    """Return one stub server for many examples."""
    with StubVllm() as server:
        yield server


HOSTILE = st.one_of(
    st.text(max_size=60),
    st.text(st.characters(categories=["Cs", "Cc", "Co"]), max_size=20),
    st.integers(1, 3_000).map(lambda depth: "[" * depth),
    st.integers(1, 3_000).map(lambda depth: '{"clues":' * depth),
    st.recursive(st.none() | st.booleans() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)).map(str),
    st.sampled_from(
        ['{"clues": ["a"', '{"clues": 7}', '{"clues": [], "more": 1}', '{"clues": ["\\ud800"]}', "null", ""]
    ),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(HOSTILE)
def test_row_18_any_text_is_parsed_or_given_up(lasting: StubVllm, text: str) -> None:
    """Whatever comes, a JSON node gets a reply that its schema allows or None, after at most one repair."""

    async def reply() -> None:
        asked = len(lasting.requests)
        async with client_of(lasting.url) as client:
            parsed, kept = await Llm(client, "stub").reply(
                question_of(bench()), "extract_clues", 1, ASKED, 128, schema=Clues
            )
        assert parsed is None or Clues.model_validate(parsed.model_dump()) == parsed
        kept.encode()
        assert len(lasting.requests) - asked <= 2

    lasting.script = lambda _: Turn(text, obeys=False)
    asyncio.run(reply())


CHUNKS = [
    "null",
    "[]",
    '{"choices": null}',
    '{"choices": [null]}',
    '{"choices": [{"index": 0, "delta": null}]}',
    '{"choices": [{"index": 0, "delta": {"content": 5}}]}',
    '{"choices": [], "prompt_token_ids": [-1]}',
    '{"choices": [], "prompt_token_ids": "ids"}',
    '{"choices": [{"index": 0, "delta": {}, "token_ids": 7}]}',
    "[" * 100_000,
]


@pytest.mark.parametrize("chunk", CHUNKS, ids=lambda chunk: chunk[:40])
async def test_a_chunk_of_another_shape_is_the_server_s_fault(
    stub: StubVllm, client: openai.AsyncOpenAI, chunk: str
) -> None:
    """The client hands chunks on unchecked; an AttributeError out of one would end the whole run with a traceback."""
    stub.next_turns.append(Turn(after=1, then="garbage", garbage=chunk))
    with pytest.raises(LlmError, match="server_error"):
        await ask(client, question_of(bench()))

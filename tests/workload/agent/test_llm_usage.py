"""A server's usage is checked once: an impossible figure fails its call and nothing else."""

from __future__ import annotations

import asyncio
import json
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from exporter.agent.usage import Usage
from tests.stubs.agent import bench, client_of
from tests.stubs.vllm import StubVllm, Turn
from workload.agent.llm import MAX_REPLY_CHARS, Llm, LlmError
from workload.record.journal import Journal, read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.stubs.agent import Bench
    from workload.engine.message import Message

ASKED: list[Message] = [{"role": "user", "content": "Who founded the Tin Choir in the year of the long winter?"}]
NO_COUNTS: list[Any] = [-1, 2**63, 10**30, 1.0, 3.7, math.nan, math.inf, True, "7", [1], {}, {"value": 1}]
NO_WORDS: list[Any] = [5, True, [1], {"a": 1}, "x" * 65, "x" * 1_000_000, "\ud800", "nul\0", "line\nbreak", "stöp"]


@pytest.fixture(scope="module")
def lasting() -> Iterator[StubVllm]:
    """Return one stub server for many examples."""
    with StubVllm() as server:
        yield server


async def call(server: StubVllm, measured: Bench, turn: Turn) -> str | None:
    """Make one call and return its reason if it failed."""
    server.next_turns.append(turn)
    async with client_of(server.url) as client:
        try:
            await Llm(client, "stub").complete(measured.meter.question("0", "bridge"), "generate", 2, ASKED, 32)
        except LlmError as error:
            return error.reason
    return None


async def survives(server: StubVllm, folder: Path, turn: Turn) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the journal's rows of a call with that turn, and of an honest one after it."""
    with Journal(folder / "journal.sqlite", {}) as journal:
        measured = bench(journal=journal)
        question = measured.meter.question("0", "bridge")
        question.open({"arm": "a", "block": 0, "phase": "p", "segment": 0, "question_id": "q", "attempt": 1})
        for one in (turn, Turn("two words")):
            server.next_turns.append(one)
            async with client_of(server.url) as client:
                with suppress(LlmError):
                    await Llm(client, "stub").complete(question, "generate", 2, ASKED, 32)
        await journal.acknowledge()
    hostile, honest = read(folder / "journal.sqlite", "llm_call")
    return hostile, honest


LIES = [
    *(Turn("a b", usage={name: value}) for name in ("prompt_tokens", "completion_tokens") for value in NO_COUNTS),
    *(Turn("a b", usage={name: value}) for name in ("prompt_tokens", "completion_tokens") for value in (None, ...)),
    *(Turn("a b", usage={"prompt_tokens_details": {"cached_tokens": value}}) for value in NO_COUNTS),
    *(Turn("a b", usage={"prompt_tokens_details": value}) for value in ("x", [1], 7, True)),
    Turn("a b", usage={"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}),
    Turn("a b", usage={"prompt_tokens": 0, "prompt_tokens_details": {"cached_tokens": 1}}),
    *(Turn("a b", ends=value) for value in NO_WORDS),
]


@pytest.mark.parametrize("turn", LIES, ids=lambda turn: repr(turn.usage or turn.ends)[:60])
async def test_row_23_a_figure_that_cannot_be_true_costs_its_call_and_nothing_else(
    lasting: StubVllm, tmp_path: Path, turn: Turn
) -> None:
    """One such number ended an hour-long run: as a traceback, or as "Free disk space" for what no disk was short of.

    The row is written, and the call keeps its place in the order of arrival: else no later bound would ever be known.
    """
    hostile, honest = await survives(lasting, tmp_path, turn)
    assert (hostile["outcome"], hostile["reason"], hostile["prompt_tokens"]) == ("failed", "server_error", None)
    assert (honest["outcome"], honest["completion_tokens"]) == ("ok", 3)
    assert honest["reusable_tokens"] is not None


@pytest.mark.parametrize(
    ("reported", "cached"),
    [
        ({"prompt_tokens_details": None}, None),
        ({"prompt_tokens_details": ...}, None),
        ({"prompt_tokens_details": {}}, None),
        ({"prompt_tokens_details": {"cached_tokens": None}}, None),
        ({"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 7}}, 7),
        ({"prompt_tokens": 0, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 0}}, 0),
        ({"prompt_tokens": 2**63 - 1, "completion_tokens": 2**63 - 1}, ...),
    ],
    ids=repr,
)
async def test_a_figure_that_may_be_true_is_taken(
    lasting: StubVllm, tmp_path: Path, reported: dict[str, Any], cached: Any
) -> None:
    """Not said is not zero, and a server that says little is an honest one."""
    first, _ = await survives(lasting, tmp_path, Turn("a b", usage=reported))
    assert first["outcome"] == "ok"
    assert cached is ... or first["cached_tokens"] == cached
    assert first["prompt_tokens"] == reported.get("prompt_tokens", first["prompt_tokens"])


@pytest.mark.parametrize("content", [["a"], {"a": 1}, [], 5, True], ids=repr)
async def test_a_text_that_is_none_is_the_server_s_fault(lasting: StubVllm, content: Any) -> None:
    """A list has a length too: what joins the pieces raised outside of what catches a malformed chunk."""
    chunk = json.dumps({"choices": [{"index": 0, "delta": {"content": content}}]})
    turn = Turn("a b", after=1, then="garbage", garbage=chunk)
    assert await call(lasting, bench(), turn) in {"server_error", "stream_cut"}
    whole = {"choices": [{"delta": {"content": content or ["a"]}, "finish_reason": "stop"}]}
    whole["usage"] = {"prompt_tokens": 1, "completion_tokens": 1}  # type: ignore[assignment]
    turn = Turn("a b", after=1, then="garbage", garbage=json.dumps(whole))
    assert await call(lasting, bench(), turn) == "server_error"


async def test_usage_in_every_chunk_counts_once_and_a_null_takes_nothing_back(lasting: StubVllm) -> None:
    """With `continuous_usage_stats` each chunk has the sum so far; the last one with a usage counts."""
    measured = bench()
    parts: list[dict[str, Any]] = [
        {"choices": [{"delta": {"content": "a"}}], "usage": {"prompt_tokens": 9, "completion_tokens": 1}},
        {
            "choices": [{"delta": {"content": "b"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 2},
        },
        {"choices": [], "usage": None},
    ]
    garbage = "\n\ndata: ".join(json.dumps(part) for part in parts)
    assert await call(lasting, measured, Turn("a b", after=0, then="garbage", garbage=garbage)) is None
    assert measured.value("hop2rag_completion_tokens_total", node="generate", hop="2") == 2


async def test_row_23_token_ids_without_end_are_as_oversized_as_a_text(lasting: StubVllm) -> None:
    """Ids come with an empty text, so a limit on characters alone lets a server fill the memory."""
    chunk = json.dumps({"choices": [{"delta": {}, "token_ids": [1] * (MAX_REPLY_CHARS + 1)}]})
    assert await call(lasting, bench(), Turn("a b", after=1, then="garbage", garbage=chunk)) == "oversized"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ANYTHING, ANYTHING, ANYTHING, ANYTHING)
def test_a_usage_is_possible_or_refused(prompt: Any, completion: Any, cached: Any, reason: Any) -> None:
    """Whatever was let through can be counted, stored and encoded."""
    try:
        usage = Usage(prompt, completion, cached, reason)
    except ValidationError:
        return
    reported = [
        usage.prompt_tokens,
        usage.completion_tokens,
        *([] if usage.cached_tokens is None else [usage.cached_tokens]),
    ]
    assert all(type(count) is int and 0 <= count < 2**63 for count in reported)
    assert (usage.cached_tokens or 0) <= usage.prompt_tokens
    assert usage.finish_reason is None or usage.finish_reason.isascii()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    usage=st.dictionaries(st.sampled_from(["prompt_tokens", "completion_tokens", "prompt_tokens_details"]), ANYTHING)
)
def test_whatever_a_server_says_is_a_call_that_was_counted(lasting: StubVllm, usage: dict[str, Any]) -> None:
    """No shape of it raises anything that the run does not know."""
    assert asyncio.run(call(lasting, bench(), Turn("a b", usage=usage))) in {None, "server_error"}

"""Whole questions on the stub server: what ends the loop, when, and that it always ends."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.stubs.agent import StubEmbedder, StubStore, agent_of, bench, client_of
from tests.stubs.vllm import StubVllm, Turn, by_node, node_of
from workload.agent.graph import Hop2Rag
from workload.agent.llm import Llm
from workload.agent.nodes import Hop2RagNodes
from workload.agent.prompts import LAYOUTS
from workload.agent.retrieval import Retrieval
from workload.agent.state import NODES
from workload.errors import DependencyDownError

if TYPE_CHECKING:
    import openai

    from workload.agent.metering import QuestionMeter
    from workload.agent.nodes import Changes
    from workload.agent.state import Hop2RagState

NO = json.dumps({"enough": "no", "missing": "the year"})
YES = json.dumps({"enough": "yes", "missing": ""})
DONE = json.dumps({"query": "done"})


async def test_enough_ends_the_loop(stub: StubVllm, client: openai.AsyncOpenAI) -> None:
    """Reflection must be able to stop the loop early; the visits then are those of one hop, in this order."""
    stub.script = by_node(decide=YES, generate="  1901\nbecause I say so")
    question = bench().meter.question("0", "bridge")
    answer = await agent_of(client).answer({"question": "When?"}, question)
    assert (answer.termination, answer.hops, answer.answer, answer.reason) == ("enough", 1, "1901", None)
    assert [visit["node"] for visit in question.visits if "node" in visit] == list(NODES)
    assert [visit["stage"] for visit in question.visits if "stage" in visit] == ["embed", "search", "rerank"]


async def test_done_ends_the_loop_without_another_search(stub: StubVllm, client: openai.AsyncOpenAI) -> None:
    """A DONE query is not searched for and not counted as a hop."""
    stub.script = by_node(decide=NO)
    stub.next_turns.extend([Turn('{"query": "first"}'), Turn(), Turn(NO), Turn(DONE)])
    store = StubStore()
    answer = await agent_of(client, store).answer({"question": "When?"}, bench().meter.question("0", "bridge"))
    assert (answer.termination, answer.hops, store.searches) == ("done", 1, 1)
    assert answer.trajectory["queries"] == ["first"]


@pytest.mark.parametrize("max_hops", [1, 2, 4])
async def test_the_longest_legal_question_is_no_runaway(
    stub: StubVllm, client: openai.AsyncOpenAI, max_hops: int
) -> None:
    """The recursion limit must lie above every path that `max_hops` allows, or hard questions fail as runaways."""
    stub.script = by_node(decide=NO)
    store = StubStore()
    question = bench().meter.question("0", "bridge")
    answer = await agent_of(client, store, max_hops).answer({"question": "When?"}, question)
    assert (answer.termination, answer.hops, store.searches) == ("max_hops", max_hops, max_hops)
    hops = [visit["hop"] for visit in question.visits if visit.get("node") == "retrieve"]
    assert hops == list(range(1, max_hops + 1))


async def test_the_first_hop_always_searches(stub: StubVllm, client: openai.AsyncOpenAI) -> None:
    """A model that says DONE at once has seen nothing; the question itself is then the query."""
    stub.script = by_node(decompose=DONE, decide=YES)
    store = StubStore()
    answer = await agent_of(client, store).answer({"question": "When?"}, bench().meter.question("0", "bridge"))
    assert (answer.trajectory["queries"], store.searches) == (["When?"], 1)


@pytest.mark.parametrize("node", ["decompose", "extract_clues", "decide", "generate"])
async def test_a_failed_call_is_a_result(stub: StubVllm, client: openai.AsyncOpenAI, node: str) -> None:
    """A question that fails at any node ends with a reason and what was found until then, never with an exception."""
    stub.script = by_node(**{node: Turn(status=500)})
    question = bench().meter.question("0", "bridge")
    answer = await agent_of(client).answer({"question": "When?"}, question)
    assert (answer.termination, answer.reason, answer.answer) == ("error", "server_error", "")
    failed = [visit for visit in question.visits if visit.get("outcome") == "failed"]
    assert [visit["node"] for visit in failed] == [node]


class EndlessNodes(Hop2RagNodes):
    """A defect of ours: `decide` neither ends the loop nor counts hops."""

    async def decide(self, state: Hop2RagState, meter: QuestionMeter) -> Changes:
        """Continue forever."""
        await super().decide(state, meter)
        return {"hop": state["hop"]}


async def test_row_18_a_loop_without_end_is_an_outcome(stub: StubVllm, client: openai.AsyncOpenAI) -> None:
    """LangGraph's default limit of ten thousand steps would let it run for hours; ours follows from max_hops."""
    nodes = EndlessNodes(Llm(client, "stub"), Retrieval(StubEmbedder(), StubStore()), max_hops=2)
    answer = await Hop2Rag(nodes).answer({"question": "When?"}, bench().meter.question("0", "bridge"))
    assert (answer.termination, answer.reason) == ("error", "recursion_limit")
    assert [node_of(body) for body in stub.requests].count("decide") <= 3


async def test_a_broken_store_is_not_a_failed_question(client: openai.AsyncOpenAI) -> None:
    """It would fail every question that follows, so the run has to stop with Chroma's own error and exit code."""
    measured, broken = bench(), StubStore(failure=DependencyDownError("Chroma is gone."))
    with pytest.raises(DependencyDownError, match="Chroma"):
        await agent_of(client, broken).answer({"question": "When?"}, measured.meter.question("0", "bridge"))
    assert measured.value("hop2rag_node_active", node="retrieve") == 0


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_bound_and_cache_agree_to_the_token(layout: str) -> None:
    """Two implementations that share no code, one search and one of hashes, see the same calls from both ends."""
    with StubVllm(block_size=8) as stub:
        measured = bench(block_size=8)
        async with client_of(stub.url) as client:
            for salt in ("one", "one", "other"):
                question = measured.meter.question("0", "bridge", salt)
                await agent_of(client, layout=layout).answer({"question": "When was it founded?"}, question)  # type: ignore[arg-type]
                assert [call["reusable_tokens"] for call in question.calls] == [
                    call["cached_tokens"] for call in question.calls
                ]
        reported = sum(call["cached_tokens"] for call in question.calls)
        assert stub.counts["hits"] > reported > 0


async def test_append_only_prompts_extend_each_other(stub: StubVllm, client: openai.AsyncOpenAI) -> None:
    """One changed character early in the log would discard the whole prefix, and no other test would show it."""
    await agent_of(client, layout="append-only").answer({"question": "When?"}, bench().meter.question("0", "bridge"))
    logs = [body["messages"] for body in stub.requests]
    assert len(logs) == 10
    for before, after in pairwise(logs):
        assert after[: len(before)] == before
        assert [message["role"] for message in after[len(before) :]] == ["assistant", "user"]

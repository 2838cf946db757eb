"""Single nodes: which documents they keep and add, and how they handle unexpected replies."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any, cast

from hypothesis import given
from hypothesis import strategies as st

from tests.stubs.agent import StubEmbedder, StubStore, agent_of, bench, document
from tests.stubs.vllm import StubVllm, Turn, by_node
from workload.agent.llm import MAX_REPAIRS, Llm
from workload.agent.nodes import KEPT_AFTER_RERANK, NEW_DOCUMENTS_PER_HOP, Hop2RagNodes
from workload.agent.prompts import REPAIR
from workload.agent.retrieval import Retrieval

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import openai
    from numpy.typing import NDArray

    from workload.agent.state import Hop2RagState
    from workload.corpus.document import Document

METER: Any = None
NUMBERS = st.lists(st.integers(0, 12), max_size=10)


def nodes_of(client: Any = None) -> Hop2RagNodes:
    """Return nodes on stubs."""
    return Hop2RagNodes(Llm(client, "stub"), Retrieval(StubEmbedder(), StubStore()))


def state_with(**parts: Any) -> Hop2RagState:
    """Return a state in its first hop."""
    start = {"question": "When?", "hop": 1, "queries": [], "evidence": [], "clues": [], "missing": "", "log": []}
    return cast("Hop2RagState", start | parts)


@given(NUMBERS, NUMBERS)
async def test_accumulate_takes_the_best_new_texts(known: list[int], ranked: list[int]) -> None:
    """Evidence grows by at most three a hop, in rank order, never by a text it already has: prompts stay short."""
    evidence = [document(number) for number in dict.fromkeys(known)]
    state = state_with(evidence=evidence, ranked=[document(number) for number in ranked])
    changes = await nodes_of().accumulate(state, METER)
    new = [number for number in dict.fromkeys(ranked) if number not in known]
    assert changes["fresh"] == [document(number) for number in new[:NEW_DOCUMENTS_PER_HOP]]
    assert changes["evidence"] == evidence + changes["fresh"]


async def test_accumulate_distinguishes_documents_by_text_alone() -> None:
    """Wikipedia dumps contain a paragraph under several ids; twice in a prompt it only costs tokens."""
    state = state_with(ranked=[document(1, "same"), document(2, "same"), document(3, "other")])
    changes = await nodes_of().accumulate(state, METER)
    assert [found.id for found in changes["fresh"]] == ["d1", "d3"]


async def test_grade_keeps_five() -> None:
    """Five stay after reranking; the best match comes first wherever the search had put it."""
    found = [document(number) for number in range(10)]
    question = bench().meter.question("0", "bridge")
    state = state_with(query="Senna Dole", retrieved=found)
    ranked: Sequence[Document] = (await nodes_of().grade(state, question))["ranked"]
    assert len(ranked) == KEPT_AFTER_RERANK
    assert ranked[0] == found[3]
    assert [visit["stage"] for visit in question.visits] == ["rerank"]


async def test_nothing_found_is_no_error(stub: StubVllm, client: openai.AsyncOpenAI) -> None:
    """An empty search result is an answer of the store; the question goes on without evidence."""
    answer = await agent_of(client, StubStore(hops=((),))).answer(
        {"question": "When?"}, bench().meter.question("0", "bridge")
    )
    assert (answer.termination, answer.supporting_facts) == ("max_hops", ())
    assert all("Passages:\nnone" in body["messages"][0]["content"] for body in stub.requests if body["max_tokens"] > 56)


async def test_the_query_that_is_searched_is_the_one_that_was_written(
    stub: StubVllm, client: openai.AsyncOpenAI
) -> None:
    """The next hop's query comes from the evidence; a query lost on the way would still retrieve something."""
    stub.next_turns.extend([Turn('{"query": " the Tin Choir "}')])
    embedder = StubEmbedder()
    nodes = Hop2RagNodes(Llm(client, "stub"), Retrieval(embedder, StubStore()))
    question = bench().meter.question("0", "bridge")
    state = state_with()
    state |= await nodes.decompose(state, question)  # type: ignore[typeddict-item]
    await nodes.retrieve(state, question)
    assert embedder.texts == state["queries"] == ["the Tin Choir"]


async def test_row_18_repairs_are_bounded_and_counted(stub: StubVllm, client: openai.AsyncOpenAI) -> None:
    """A model that never says JSON must cost a fixed number of calls, and show in a counter."""
    stub.script = by_node(decompose="no json here")
    measured = bench()
    question = measured.meter.question("0", "bridge")
    changes = await nodes_of(client).decompose(state_with(), question)
    assert changes["query"] == "When?"
    assert len(stub.requests) == len(question.calls) == 1 + MAX_REPAIRS
    assert stub.requests[1]["messages"] == [
        *stub.requests[0]["messages"],
        {"role": "assistant", "content": "no json here"},
        {"role": "user", "content": REPAIR},
    ]
    assert measured.value("hop2rag_json_repairs_total", node="decompose") == MAX_REPAIRS
    assert measured.value("hop2rag_json_repairs_total", node="decide") == 0


async def test_row_18_a_repaired_reply_counts(stub: StubVllm, client: openai.AsyncOpenAI) -> None:
    """The second try is worth having only if its result is used."""
    stub.next_turns.extend([Turn('{"clues": ["half'), Turn('{"clues": ["whole"]}')])
    changes = await nodes_of(client).extract_clues(state_with(fresh=[]), bench().meter.question("0", "bridge"))
    assert changes["clues"] == ["whole"]


async def test_row_18_unreadable_replies_fall_back(stub: StubVllm, client: openai.AsyncOpenAI) -> None:
    """With no readable reply at all a question is still asked, searched for, and answered after `max_hops`."""
    stub.script = lambda _: Turn("[[[")
    answer = await agent_of(client, max_hops=2).answer({"question": "When?"}, bench().meter.question("0", "bridge"))
    assert (answer.termination, answer.hops, answer.answer) == ("max_hops", 2, "[[[")
    assert answer.trajectory == {"queries": ["When?", "When?"], "clues": []}


async def test_clues_are_kept_once(stub: StubVllm, client: openai.AsyncOpenAI) -> None:
    """A small model repeats itself; the same fact twice in a prompt is no second fact."""
    stub.script = by_node(extract_clues=json.dumps({"clues": ["a", "b"]}))
    state = state_with(fresh=[], clues=["b"])
    changes = await nodes_of(client).extract_clues(state, bench().meter.question("0", "bridge"))
    assert changes["clues"] == ["b", "a"]


async def test_a_store_that_hangs_holds_up_no_ranking_and_no_embedding() -> None:
    """They shared a handful of threads: a few searches without an answer, and no question went on, nor any canary."""
    gate = threading.Event()

    class Hung(StubStore):
        """Answers when the test says so."""

        def search(self, vector: NDArray[np.float32], k: int) -> list[Document]:
            gate.wait(60)
            return super().search(vector, k)

    retrieval = Retrieval(StubEmbedder(), Hung())
    vector = await retrieval.embed("When?")
    searches = [asyncio.create_task(retrieval.search(vector)) for _ in range(64)]
    try:
        async with asyncio.timeout(30):
            await asyncio.sleep(0)
            assert len(await retrieval.embed("Where?")) == len(vector)
            nodes = Hop2RagNodes(cast("Any", None), retrieval)
            state = {"question": "q", "query": "q", "hop": 1, "retrieved": []}
            meter = bench().meter.question("0", "bridge")
            assert await nodes.grade(cast("Any", state), meter) == {"ranked": []}
    finally:
        gate.set()
    assert len(await asyncio.gather(*searches)) == 64

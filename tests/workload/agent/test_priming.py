"""Warming the cache: what is sent is what every prompt begins with, once, and no user's question is counted for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stubs.agent import StubEmbedder, StubStore, bench
from tests.stubs.engine import prompt_ids
from tests.stubs.questions import questions_about
from tests.stubs.vllm import Turn
from tests.workload.agent.test_prompts import state_of
from workload.agent.graph import Hop2Rag
from workload.agent.llm import Llm, LlmError
from workload.agent.nodes import Hop2RagNodes
from workload.agent.priming import Primer
from workload.agent.prompts import LAYOUTS, messages, preambles
from workload.agent.retrieval import Retrieval
from workload.agent.state import LLM_NODES
from workload.harness.driver import Driver, Phase
from workload.harness.health_gate import EngineGate
from workload.harness.loops import Tally
from workload.record.journal import Journal, read

if TYPE_CHECKING:
    from pathlib import Path

    import openai

    from tests.stubs.vllm import StubVllm
    from workload.settings import Layout

PLACE = {"arm": "a", "block": 0, "phase": "warm-up", "segment": 0}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_preamble_is_what_the_prompts_begin_with(layout: Layout) -> None:
    """One token that differs, and nothing is reused; the layout that begins with the question has none."""
    for node, asked in preambles(layout).items():
        primed, real = prompt_ids(asked), prompt_ids(messages(layout, node, state_of()))
        shared = next(index for index, (a, b) in enumerate(zip(primed, real, strict=False)) if a != b)
        assert shared > 20
        assert messages(layout, node, state_of())[0] == asked[0]
    assert len(preambles(layout)) == {"original": 0, "instructions-first": len(LLM_NODES), "append-only": 1}[layout]


async def test_a_primed_cache_serves_the_first_question(stub: StubVllm, client: openai.AsyncOpenAI) -> None:
    """That is all that priming is for; under another salt it would be for nothing."""
    meter = bench().meter
    await Primer(Llm(client, "stub"), meter, "append-only").prime(PLACE, "salt")
    for salt, is_warm in (("salt", True), ("another", False)):
        question = meter.question("0", "bridge", salt)
        await Llm(client, "stub").complete(
            question, "decompose", 1, messages("append-only", "decompose", state_of()), 5
        )
        assert (question.calls[0]["cached_tokens"] > 100) is is_warm
        assert question.calls[0]["cached_tokens"] == question.calls[0]["reusable_tokens"]
    assert [body["max_tokens"] for body in stub.requests] == [1, 5, 5]


async def test_its_cost_is_in_the_journal_and_not_among_the_questions(
    client: openai.AsyncOpenAI, tmp_path: Path
) -> None:
    """The cost of priming must be reported with its benefit, and must not look like a user's question."""
    path = tmp_path / "journal.sqlite"
    with Journal(path, {}) as journal:
        measured = bench(journal=journal)
        await Primer(Llm(client, "stub"), measured.meter, "instructions-first").prime(PLACE, "salt")
    (row,) = read(path, "question")
    assert (row["question_id"], row["phase"], row["outcome"]) == ("preamble", "warm-up", "ok")
    assert row["duration_seconds"] > 0
    assert len(read(path, "llm_call")) == len(LLM_NODES)
    assert measured.value("hop2rag_questions_total", outcome="ok", termination="done") == 0


async def test_a_failure_reaches_the_caller(stub: StubVllm, client: openai.AsyncOpenAI) -> None:
    """A cold cache that was taken for a warm one would be measured as one."""
    stub.next_turns.extend([Turn(status=500)])
    with pytest.raises(LlmError):
        await Primer(Llm(client, "stub"), bench().meter, "append-only").prime(PLACE, "salt")


async def test_an_engine_that_may_have_been_restarted_is_warmed_again(
    stub: StubVllm, client: openai.AsyncOpenAI
) -> None:
    """Its cache is empty then; a question that fails for its own reasons says nothing about the engine."""
    meter = bench().meter
    llm = Llm(client, "stub")
    agent = Hop2Rag(Hop2RagNodes(llm, Retrieval(StubEmbedder(), StubStore()), max_hops=1, layout="append-only"))
    driver = Driver(agent, meter, EngineGate(lambda: None), Primer(llm, meter, "append-only"))
    stub.next_turns.extend([Turn(status=500), Turn(status=400)])
    await driver.run(
        Phase(arm="a", block=0, name="c1", segment=0, salt="salt"),
        questions_about(range(3)),
        1,
        tally=Tally(3),
        advance=lambda: None,
    )
    primed = [number for number, body in enumerate(stub.requests) if body["max_tokens"] == 1]
    assert primed == [1]
    assert [body["cache_salt"] for body in stub.requests] == ["salt"] * len(stub.requests)

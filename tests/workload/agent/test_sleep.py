"""An engine that sleeps during retrieval: told in time, awake before the next call, its cost in the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stubs.agent import StubEmbedder, StubStore, bench
from tests.stubs.vllm import by_node
from workload.agent.graph import Hop2Rag
from workload.agent.llm import Llm
from workload.agent.nodes import Hop2RagNodes
from workload.agent.retrieval import Retrieval
from workload.agent.sleep import EngineSleep
from workload.arms import parse_arm
from workload.engine.endpoint import open_client
from workload.errors import DependencyDownError, UsageError
from workload.settings import load_settings, with_options

if TYPE_CHECKING:
    import openai

    from tests.stubs.vllm import StubVllm


def agent_of(client: openai.AsyncOpenAI, sleep: EngineSleep) -> Hop2Rag:
    """Return an agent of two hops whose engine sleeps."""
    retrieval = Retrieval(StubEmbedder(), StubStore())
    return Hop2Rag(Hop2RagNodes(Llm(client, "stub"), retrieval, 2, sleep=sleep))


async def test_it_sleeps_and_wakes_at_every_hop(stub: StubVllm, client: openai.AsyncOpenAI) -> None:
    """A call to a sleeping engine would hang; both steps are timed, for waking up is what the option costs."""
    stub.can_sleep = True
    stub.script = by_node(decide='{"missing": "x", "enough": "no"}')
    question = bench().meter.question("0", "bridge")
    with open_client(stub.url, 5.0) as http:
        assert (await agent_of(client, EngineSleep(http)).answer("When?", question)).reason is None
    assert stub.told == ["/sleep", "/wake_up"] * 2
    steps = [
        (row["node"], row["hop"], row["outcome"]) for row in question.visits if row.get("node") in {"sleep", "wake_up"}
    ]
    assert steps == [("sleep", 1, "ok"), ("wake_up", 1, "ok"), ("sleep", 2, "ok"), ("wake_up", 2, "ok")]


async def test_an_engine_that_cannot_sleep_ends_the_run(stub: StubVllm, client: openai.AsyncOpenAI) -> None:
    """Without its development mode vLLM answers 404; an arm that never slept would be measured as asleep."""
    with open_client(stub.url, 5.0) as http, pytest.raises(DependencyDownError, match="VLLM_SERVER_DEV_MODE"):
        await agent_of(client, EngineSleep(http)).answer("When?", bench().meter.question("0", "bridge"))


def test_an_arm_that_sleeps_needs_an_engine_that_can_and_no_other_questions() -> None:
    """A sleep aborts what is in flight."""
    assert parse_arm("asleep:sleeping=true,sleep-mode=true").vllm_profile.sleep_mode is True
    with pytest.raises(UsageError, match="cannot sleep"):
        parse_arm("asleep:sleeping=true")
    settings = load_settings({"limit": 1, "max_hops": 1, "k": 5, "concurrency": (4,)}, {})
    with pytest.raises(UsageError, match="in flight"):
        with_options(settings, {"sleeping": True})

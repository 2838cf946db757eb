"""An engine that sleeps during retrieval: requested in time, awake before the next call, its cost in the journal."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.stubs.agent import StubEmbedder, StubStore, bench
from tests.stubs.vllm import by_node
from workload.agent.graph import Hop2Rag
from workload.agent.llm import Llm
from workload.agent.nodes import Hop2RagNodes
from workload.agent.retrieval import Retrieval
from workload.agent.sleep import EngineSleep
from workload.engine.endpoint import open_client
from workload.errors import DependencyDownError, UsageError
from workload.experiments.arms import parse_arm
from workload.settings import load_settings, with_options

if TYPE_CHECKING:
    import openai

    from tests.stubs.vllm import StubVllm


def agent_of(client: openai.AsyncOpenAI, sleep: EngineSleep) -> Hop2Rag:
    """Return an agent of two hops whose engine sleeps."""
    retrieval = Retrieval(StubEmbedder(), StubStore())
    return Hop2Rag(Hop2RagNodes(Llm(client, "stub"), retrieval, max_hops=2, sleep=sleep))


async def test_it_sleeps_and_wakes_at_every_hop(stub: StubVllm, client: openai.AsyncOpenAI) -> None:
    """A call to a sleeping engine would hang; both steps are timed, for waking up is what the option costs."""
    stub.can_sleep = True
    stub.script = by_node(decide='{"missing": "x", "enough": "no"}')
    question = bench().meter.question("0", "bridge")
    with open_client(stub.url, 5.0) as http:
        assert (await agent_of(client, EngineSleep(http)).answer({"question": "When?"}, question)).reason is None
    assert stub.other_paths == ["/sleep", "/wake_up"] * 2
    steps = [
        (row["node"], row["hop"], row["outcome"]) for row in question.visits if row.get("node") in {"sleep", "wake_up"}
    ]
    assert steps == [("sleep", 1, "ok"), ("wake_up", 1, "ok"), ("sleep", 2, "ok"), ("wake_up", 2, "ok")]


async def test_an_engine_that_cannot_sleep_ends_the_run(stub: StubVllm, client: openai.AsyncOpenAI) -> None:
    """Without its development mode vLLM answers 404; an arm that never slept would be measured as asleep."""
    with open_client(stub.url, 5.0) as http, pytest.raises(DependencyDownError, match="VLLM_SERVER_DEV_MODE"):
        await agent_of(client, EngineSleep(http)).answer({"question": "When?"}, bench().meter.question("0", "bridge"))


def test_an_arm_that_sleeps_needs_an_engine_that_can_and_no_other_questions() -> None:
    """A sleep aborts what is in flight."""
    assert parse_arm("asleep:sleeping=true,sleep-mode=true").vllm_profile.sleep_mode is True
    with pytest.raises(UsageError, match="cannot sleep"):
        parse_arm("asleep:sleeping=true")
    settings = load_settings({"limit": 1, "max_hops": 1, "k": 5, "concurrency": (4,)}, {})
    with pytest.raises(UsageError, match="in flight"):
        with_options(settings, {"sleeping": True})


@pytest.mark.parametrize("cancels", [1, 3])
async def test_the_wake_up_of_a_cancelled_question_does_not_overtake_its_sleep(cancels: int) -> None:
    """Whoever stops waiting for a request has not stopped the request: woken too early, the engine slept for good."""
    heard: list[str] = []
    arrives = threading.Event()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/sleep":
            arrives.wait(30)
        heard.append(request.url.path)
        return httpx.Response(200)

    with httpx.Client(transport=httpx.MockTransport(answer), base_url="http://engine") as client:
        question = bench().meter.question("0", "bridge")
        asking = asyncio.create_task(EngineSleep(client).during(asyncio.sleep(0), 1, question))
        for _ in range(cancels):
            await asyncio.sleep(0.02)
            asking.cancel()
        await asyncio.sleep(0.02)
        arrives.set()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert heard == ["/sleep", "/wake_up"]


async def test_a_retrieval_that_fails_wakes_the_engine_once_it_sleeps() -> None:
    """The failure is reported, and the next question finds the engine awake."""
    heard: list[str] = []
    arrives = threading.Event()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/sleep":
            arrives.wait(30)
        heard.append(request.url.path)
        return httpx.Response(200)

    async def fails() -> None:
        asyncio.get_running_loop().call_later(0.05, arrives.set)
        raise DependencyDownError("Chroma does not answer.")

    client = httpx.Client(transport=httpx.MockTransport(answer), base_url="http://engine")
    with client, pytest.raises(DependencyDownError, match="Chroma"):
        await EngineSleep(client).during(fails(), 1, bench().meter.question("0", "bridge"))
    assert heard == ["/sleep", "/wake_up"]

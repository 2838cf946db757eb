"""The callback handler on a graph that is not ours: corrective RAG, whose parts know nothing of metering."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import httpx
import pytest
from langgraph.graph import START, StateGraph

from exporter.langgraph import MeteringHandler
from tests.exporter.langgraph.bench import graph
from tests.exporter.langgraph.samples import NODES, by_node, series, value
from tests.stubs.corrective import CACHED, PROMPT_TOKENS, ChatModel, CorrectiveRag, Retriever

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

ROOT = Path(__file__).parents[3]
ONE_REWRITE = ("no", "other words", "yes", "Forty two")


def model(*replies: Any, **more: Any) -> ChatModel:
    """Return a model that says these."""
    return ChatModel(replies=deque(replies or ONE_REWRITE), **more)


def metered(agent: CorrectiveRag, **more: Any) -> tuple[CompiledStateGraph[Any, Any, Any, Any], MeteringHandler]:
    """Return the app with a handler on it, and the handler."""
    app = agent.app()
    handler = MeteringHandler(app.nodes, **more)
    return app.with_config(callbacks=[handler]), handler


async def test_a_loop_is_counted_visit_by_visit() -> None:
    """Conditional edges and loops are what an agent is made of; a wrapper around the app would see one long call."""
    app, handler = metered(CorrectiveRag(model(seconds=0.02)))
    answered = await app.ainvoke({"question": "Why?"})
    assert answered["answer"] == "Forty two "
    assert by_node(handler, "hop2rag_node_duration_seconds_count") == [2, 2, 1, 1]
    assert by_node(handler, "hop2rag_llm_call_duration_seconds_count") == [None, 2, 1, 1]
    assert value(handler, "hop2rag_retrieval_duration_seconds_count", stage="search") == 2
    assert value(handler, "hop2rag_questions_total", outcome="ok", termination="done") == 1
    assert value(handler, "hop2rag_hops_sum", type="other") == 2
    ttft, call, visit, whole = (
        value(handler, f"hop2rag_{name}_seconds_sum", **labels) or 0.0
        for name, labels in (
            ("llm_time_to_first_token", {"node": "grade"}),
            ("llm_call_duration", {"node": "grade"}),
            ("node_duration", {"node": "grade"}),
            ("question_duration", {}),
        )
    )
    assert 0.04 <= ttft < call < visit < whole


async def test_tokens_are_the_servers_by_node_and_hop() -> None:
    """The second grading is another hop: growth of the context is seen by comparing the two."""
    app, handler = metered(CorrectiveRag(model()))
    await app.ainvoke({"question": "Why?"})
    for node, hop, said in (("grade", "1", 1), ("rewrite", "1", 2), ("grade", "2", 1), ("generate", "1", 2)):
        assert value(handler, "hop2rag_prompt_tokens_total", node=node, hop=hop) == PROMPT_TOKENS
        assert value(handler, "hop2rag_cached_prompt_tokens_total", node=node, hop=hop) == CACHED
        assert value(handler, "hop2rag_completion_tokens_total", node=node, hop=hop) == said
    assert value(handler, "hop2rag_prompt_tokens_total", node="generate", hop="2") is None


async def test_what_is_not_reported_is_absent() -> None:
    """A model that does not stream has no first token; a server that does not report hits may still have some."""
    app, handler = metered(CorrectiveRag(model("yes", "so", is_streaming=False, reports_cached=False)))
    await app.ainvoke({"question": "Why?"})
    assert value(handler, "hop2rag_prompt_tokens_total", node="grade", hop="1") == PROMPT_TOKENS
    assert value(handler, "hop2rag_llm_time_to_first_token_seconds_count", node="grade") is None
    assert value(handler, "hop2rag_cached_prompt_tokens_total", node="grade", hop="1") is None


async def test_many_questions_at_once_are_distinguished() -> None:
    """Callbacks of all questions come interleaved; a visit credited to another question would have another hop."""
    number = 40
    app = CorrectiveRag(model()).app()
    handler = MeteringHandler(app.nodes)
    before = series(handler)

    async def ask(question: int) -> None:
        own = CorrectiveRag(model(*(["no", "again"] * (question % 3)), "yes", "so", seconds=0.001)).app()
        await own.ainvoke({"question": f"Question {question}?"}, {"callbacks": [handler]})

    await asyncio.gather(*(ask(question) for question in range(number)))
    rewrites = sum(question % 3 for question in range(number))
    assert by_node(handler, "hop2rag_node_duration_seconds_count") == [number + rewrites] * 2 + [rewrites, number]
    assert value(handler, "hop2rag_prompt_tokens_total", node="grade", hop="3") == PROMPT_TOKENS * (number // 3)
    assert value(handler, "hop2rag_prompt_tokens_total", node="grade", hop="4") is None
    assert by_node(handler, "hop2rag_node_active") == [0, 0, 0, 0]
    # The timeline holds the last seconds; a late question takes a freed place.
    workers = set(re.findall(r'worker="(\d+)"', handler._instruments.timeline().decode()))
    assert len(workers) > 1
    assert workers <= {str(worker) for worker in range(number)}
    assert len(handler._runs) == 0
    reported = {key for key in series(handler) - before if key[0].startswith("hop2rag_cached")}
    assert not [key for key in reported if "other" in key]


def test_a_sync_app_in_threads_is_metered_alike() -> None:
    """Many apps call `invoke` from a thread pool, where there is no event loop to run callbacks on."""

    class Plain(TypedDict):
        text: str

    graph = StateGraph(Plain)
    graph.add_node("speak", lambda state: {"text": model("some words").invoke(state["text"]).content})
    graph.add_edge(START, "speak")
    app = graph.compile()
    handler = MeteringHandler(app.nodes)
    threads = [threading.Thread(target=app.invoke, args=({"text": "?"}, {"callbacks": [handler]})) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value(handler, "hop2rag_node_duration_seconds_count", node="speak") == 8
    assert value(handler, "hop2rag_llm_time_to_first_token_seconds_count", node="speak") == 8
    assert value(handler, "hop2rag_questions_total", outcome="ok", termination="done") == 8
    assert len(handler._runs) == 0


async def test_a_failed_call_is_counted_and_reaches_the_app() -> None:
    """Metering that hides an error is worse than none; one that takes a refusal for a latency flatters the overload."""
    app, handler = metered(CorrectiveRag(model(ConnectionError("refused"))))
    with pytest.raises(ConnectionError):
        await app.ainvoke({"question": "Why?"})
    assert value(handler, "hop2rag_llm_errors_total", node="grade", reason="connection") == 1
    assert by_node(handler, "hop2rag_node_duration_seconds_count") == [1, 0, 0, 0]
    assert by_node(handler, "hop2rag_node_failures_total") == [0, 1, 0, 0]
    assert latencies_of_failures(handler) == [0, 0]
    assert value(handler, "hop2rag_questions_total", outcome="failed", termination="error") == 1
    assert value(handler, "hop2rag_hops_count", type="other") == 0


def latencies_of_failures(handler: MeteringHandler) -> list[float | None]:
    """Return how many questions and gradings the histograms have observed."""
    names = {"question_duration": {}, "llm_call_duration": {"node": "grade"}}
    return [value(handler, f"hop2rag_{name}_seconds_count", **labels) for name, labels in names.items()]


async def test_a_failed_retriever_is_counted_and_is_no_latency() -> None:
    """A search that times out takes its limit, and one that is refused takes nothing: neither is a search's time."""
    app, handler = metered(CorrectiveRag(model(), Retriever(failure=TimeoutError())))
    with pytest.raises(TimeoutError):
        await app.ainvoke({"question": "Why?"})
    assert value(handler, "hop2rag_retrieval_duration_seconds_count", stage="search") == 0
    assert value(handler, "hop2rag_retrieval_failures_total", stage="search") == 1
    assert by_node(handler, "hop2rag_node_failures_total") == [1, 0, 0, 0]
    assert len(handler._runs) == 0


async def test_a_cancelled_question_leaves_nothing_open() -> None:
    """A user who goes away in mid-call must not leave a gauge up forever, nor a question in memory."""
    hangs = asyncio.Event()
    app, handler = metered(CorrectiveRag(model("", hangs=hangs)))
    asking = asyncio.create_task(app.ainvoke({"question": "Why?"}))
    await hangs.wait()
    assert value(handler, "hop2rag_node_active", node="grade") == 1
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert value(handler, "hop2rag_questions_total", outcome="cancelled", termination="error") == 1
    assert value(handler, "hop2rag_llm_errors_total", node="grade", reason="cancelled") == 1
    assert by_node(handler, "hop2rag_node_failures_total") == [0, 1, 0, 0]
    assert latencies_of_failures(handler) == [0, 0]
    assert by_node(handler, "hop2rag_node_active") == [0, 0, 0, 0]
    assert len(handler._runs) == 0


@pytest.mark.parametrize("is_search", [False, True])
async def test_what_a_node_gives_up_is_cancelled(is_search: bool) -> None:
    """A call under `asyncio.wait_for` ends without a report of LangChain's; it must not stay open for an hour."""
    begun = asyncio.Event()

    async def give_up(_: Any) -> dict[str, int]:
        waits: Any = Retriever(begun=begun) if is_search else model("", hangs=begun)
        call = asyncio.create_task(waits.ainvoke("Why?"))
        await begun.wait()
        call.cancel()
        with suppress(asyncio.CancelledError):
            await call
        return {"count": 1}

    handler = MeteringHandler()
    await graph(("give_up", give_up)).ainvoke({"text": "?"}, {"callbacks": [handler]})
    calls = value(handler, "hop2rag_llm_errors_total", node="give_up", reason="cancelled")
    assert (calls, value(handler, "hop2rag_retrieval_failures_total", stage="search")) == (
        (None, 1) if is_search else (1, None)
    )
    assert value(handler, "hop2rag_questions_total", outcome="ok", termination="done") == 1
    assert len(handler._runs) == 0


async def test_an_abandoned_stream_is_cancelled() -> None:
    """Leaving `async for` early is how a web server's client hangs up."""
    app, handler = metered(CorrectiveRag(model()))
    stream = app.astream({"question": "Why?"})
    assert await anext(stream)
    await stream.aclose()
    assert value(handler, "hop2rag_questions_total", outcome="cancelled", termination="error") == 1
    assert len(handler._runs) == 0


async def test_a_subgraph_counts_its_own_steps() -> None:
    """A subgraph's steps start at 1 in each visit; taken by number alone, its second visit would be its first."""
    inner = CorrectiveRag(model("yes", "so", "yes", "so")).app()

    class Twice(TypedDict, total=False):
        question: str
        times: int

    async def research(state: Twice) -> Twice:
        await inner.ainvoke({"question": "Why?"})
        return {"times": state.get("times", 0) + 1}

    graph = StateGraph(Twice)
    graph.add_node("research", research)
    graph.add_edge(START, "research")
    graph.add_conditional_edges("research", lambda state: "research" if state["times"] < 2 else "__end__")
    handler = MeteringHandler([*NODES, "research"])
    await graph.compile().ainvoke({"question": "Why?"}, {"callbacks": [handler]})
    assert value(handler, "hop2rag_node_duration_seconds_count", node="research") == 2
    assert value(handler, "hop2rag_prompt_tokens_total", node="grade", hop="2") == PROMPT_TOKENS
    assert value(handler, "hop2rag_questions_total", outcome="ok", termination="done") == 1


async def test_a_failure_of_metering_stays_out_of_the_app(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Metering must never break an app; its figures must still show that some are missing."""
    app, handler = metered(CorrectiveRag(model()))
    monkeypatch.setattr(handler._runs, "visit", lambda *_: {}["gone"])
    with caplog.at_level(logging.WARNING):
        answered = await app.ainvoke({"question": "Why?"})
    assert answered["answer"] == "Forty two "
    assert value(handler, "hop2rag_metering_failures_total") == 6
    assert len(caplog.records) == 1
    assert value(handler, "hop2rag_questions_total", outcome="ok", termination="done") == 1


async def test_an_answer_without_a_message_is_no_open_call() -> None:
    """A library's response of another shape costs its tokens, not the call's time."""
    app, handler = metered(CorrectiveRag(model()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("exporter.langgraph.replies.usage_of", lambda _: {}["message"])
        await app.ainvoke({"question": "Why?"})
    assert value(handler, "hop2rag_metering_failures_total") == 4
    assert by_node(handler, "hop2rag_llm_call_duration_seconds_count") == [None, 2, 1, 1]


async def test_the_readmes_three_lines_work() -> None:
    """They are what a newcomer copies."""
    (example,) = re.findall(r"```python\n(.*?MeteringHandler.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len([line for line in example.splitlines() if line]) == 3
    names: dict[str, Any] = {"app": CorrectiveRag(model()).app()}
    assert "port=9465" in example
    exec(example.replace("port=9465", "port=0"), names)  # noqa: S102 - the README is executed
    meter = names["meter"]
    try:
        await names["app"].ainvoke({"question": "Why?"})
        async with httpx.AsyncClient(base_url=f"http://{meter.address}") as client:
            metrics, timeline = (await client.get("/metrics")).text, (await client.get("/metrics/timeline")).text
    finally:
        meter.close()
    assert 'hop2rag_node_duration_seconds_count{node="grade"} 2.0' in metrics
    assert 'hop2rag_timeline_node_active{worker="0",node="rewrite"} 1' in timeline

"""Which series an app has: those that something can move, from the moment in which it can."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from exporter.langgraph import MeteringHandler
from tests.exporter.langgraph.bench import graph
from tests.exporter.langgraph.samples import by_node, series, value
from tests.stubs.corrective import ChatModel, CorrectiveRag

if TYPE_CHECKING:
    import pytest


def agent(**of_model: bool) -> CorrectiveRag:
    """Return an agent that rewrites once."""
    return CorrectiveRag(ChatModel(replies=deque(["no", "other words", "yes", "so"]), **of_model))


async def test_a_node_that_was_not_named_is_learned() -> None:
    """Nobody lists the nodes of the agents inside an agent; a series starts at zero when the node first runs."""
    handler = MeteringHandler(["retrieve"], llm_nodes=["grade"])
    assert by_node(handler, "hop2rag_node_duration_seconds_count") == [0, None, None, None]
    assert by_node(handler, "hop2rag_llm_call_duration_seconds_count") == [None, 0, None, None]
    await agent().app().ainvoke({"question": "Why?"}, {"callbacks": [handler]})
    assert by_node(handler, "hop2rag_node_duration_seconds_count") == [2, 2, 1, 1]
    assert value(handler, "hop2rag_node_duration_seconds_count", node="other") is None


async def test_the_nodes_of_subgraphs_are_known_from_the_start() -> None:
    """A rate of a node that has not run yet is 0; without its series it is no data."""
    app = graph(("outer", graph(("inner", agent().app()))))
    handler = MeteringHandler(app.nodes)
    assert by_node(handler, "hop2rag_node_duration_seconds_count") == [0, 0, 0, 0]
    assert value(handler, "hop2rag_node_duration_seconds_count", node="inner") == 0


async def test_no_series_is_served_that_nothing_can_move() -> None:
    """58 of 477 samples of such an app were zeros of another agent's vocabulary, 84 were times of creation."""
    app = agent(is_streaming=False, reports_cached=False).app()
    handler = MeteringHandler(app.nodes)
    served = series(handler)
    assert {name for name, *_ in served if name.startswith("hop2rag_busy")} == {"hop2rag_busy_seconds_total"}
    assert ("hop2rag_busy_seconds_total", "neither") in served
    await app.ainvoke({"question": "Why?"}, {"callbacks": [handler]})
    names = {name for name, *_ in series(handler)}
    assert not [name for name in names if name.endswith("_created")]
    absent = ("prefetch", "json_repairs", "retries", "reusable", "cached", "first", "vllm", "soak")
    assert not [name for name in names if any(word in name for word in absent)]
    labels = {label for _, *labels in series(handler) for label in labels}
    assert not labels & {"bridge", "comparison", "enough", "max_hops", "embed", "rerank", "oversized"}


async def test_a_call_without_usage_is_counted_and_hinted_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """ChatOpenAI leaves the usage of a stream out by default: tokens that are missing look like tokens saved."""
    app, handler = agent(reports_usage=False).app(), MeteringHandler()
    await app.ainvoke({"question": "Why?"}, {"callbacks": [handler]})
    assert value(handler, "hop2rag_llm_calls_without_usage_total", node="grade") == 2
    assert value(handler, "hop2rag_prompt_tokens_total", node="grade", hop="1") == 0
    assert ["stream_usage=True" in record.message for record in caplog.records] == [True]

"""Our own graph under both meters: the one inside its nodes, and the callback handler that fits any graph."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from exporter.langgraph import MeteringHandler
from tests.stubs.agent import agent_of, bench
from tests.stubs.vllm import by_node
from workload.agent.state import NODES

if TYPE_CHECKING:
    import openai

    from tests.stubs.vllm import StubVllm


async def test_both_meters_see_the_same_visits(stub: StubVllm, client: openai.AsyncOpenAI) -> None:
    """Callbacks and nodes report the same question independently: a visit that one loses or doubles shows."""
    stub.script = by_node(decide=json.dumps({"enough": "no", "missing": "the year"}))
    inside, handler = bench(), MeteringHandler(NODES)
    agent = agent_of(client, max_hops=3)
    agent._app = agent._app.with_config(callbacks=[handler])
    answer = await agent.answer({"question": "When?"}, inside.meter.question("0", "bridge"))
    assert answer.hops == 3
    for node in NODES:
        labels, name = {"node": node}, "hop2rag_node_duration_seconds"
        outside = handler.registry
        assert outside.get_sample_value(f"{name}_count", labels) == inside.value(f"{name}_count", **labels)
        seen_outside = outside.get_sample_value(f"{name}_sum", labels) or 0.0
        assert seen_outside > (inside.value(f"{name}_sum", **labels) or 0.0) > 0

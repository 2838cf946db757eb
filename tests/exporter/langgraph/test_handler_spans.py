"""Spans of an app that is not ours, and the trace context that its own HTTP clients find."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from exporter.agent.spans import AgentTracer
from exporter.langgraph import MeteringHandler
from tests.stubs.corrective import CACHED, PROMPT_TOKENS, ChatModel, CorrectiveRag

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan


class Watching(CorrectiveRag):
    """Notes which span is current inside a node, as an instrumented HTTP client does."""

    current: int = 0

    async def generate(self, state: Any) -> Any:
        """Look, then answer."""
        self.current = trace.get_current_span().get_span_context().span_id
        return await super().generate(state)


async def traced(agent: CorrectiveRag) -> tuple[ReadableSpan, ...]:
    """Ask a question and return its spans, in the order in which they ended."""
    exported = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exported))
    app = agent.app()
    handler = MeteringHandler(app.nodes, tracer=AgentTracer(provider.get_tracer("test"), "crag"))
    with suppress(ConnectionError):
        await app.ainvoke({"question": "TOPSECRET?"}, {"callbacks": [handler]})
    return exported.get_finished_spans()


async def test_spans_nest_as_the_runs_do() -> None:
    """Callbacks end in tasks of their own, so nothing may depend on what is current there."""
    spans = await traced(CorrectiveRag(ChatModel(replies=deque(["no", "other words", "yes", "Forty two"]))))
    root = spans[-1]
    assert (root.name, root.parent) == ("invoke_agent crag", None)
    names = {span.context.span_id: span.name for span in spans}
    nested = [(span.name, names[span.parent.span_id]) for span in spans if span.parent]
    assert [name for name, parent in nested if parent == root.name] == [
        "retrieve",
        "grade",
        "rewrite",
        "retrieve",
        "grade",
        "generate",
    ]
    assert [parent for name, parent in nested if name == "chat"] == ["grade", "rewrite", "grade", "generate"]
    assert [parent for name, parent in nested if name == "search"] == ["retrieve", "retrieve"]
    last = [span.attributes or {} for span in spans if span.name == "chat"][2]
    assert (last["hop2rag.node"], last["hop2rag.hop"]) == ("grade", 2)
    assert last["gen_ai.usage.input_tokens"] == PROMPT_TOKENS
    assert last["gen_ai.usage.cache_read.input_tokens"] == CACHED
    assert "TOPSECRET" not in "".join(span.to_json() for span in spans)


async def test_a_nodes_http_client_finds_its_span() -> None:
    """A model's client cannot be handed a header from a callback; an instrumented one takes what is current."""
    agent = Watching(ChatModel(replies=deque(["yes", "Forty two"])))
    (generate,) = [span for span in await traced(agent) if span.name == "generate"]
    assert agent.current == generate.context.span_id


async def test_a_failure_is_marked_up_to_the_question() -> None:
    """A failed trace is found by its reason; the message of the error is not part of it."""
    spans = await traced(CorrectiveRag(ChatModel(replies=deque([ConnectionError("TOPSECRET host")]))))
    kinds = {span.name: (span.attributes or {}).get("error.type") for span in spans}
    assert (kinds["chat"], kinds["grade"], kinds["invoke_agent crag"]) == (
        "connection",
        "ConnectionError",
        "ConnectionError",
    )
    assert kinds["retrieve"] is None
    assert "TOPSECRET" not in "".join(span.to_json() for span in spans)


async def test_without_spans_the_apps_own_trace_is_left_alone() -> None:
    """An app that traces itself must find its own span current in its nodes, not an invalid one of ours."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("app")
    agent = Watching(ChatModel(replies=deque(["yes", "Forty two"])))
    app = agent.app()
    with tracer.start_as_current_span("request") as own:
        await app.ainvoke({"question": "Why?"}, {"callbacks": [MeteringHandler(app.nodes)]})
    assert agent.current == own.get_span_context().span_id

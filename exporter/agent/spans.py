"""OpenTelemetry spans of an agent, under the names of the GenAI semantic conventions where those have one.

question (invoke_agent) > node visit > retrieval stage or LLM call (chat). No text of a question, a document, a prompt
or a reply ever enters a span, nor does the message of an exception. docs/opentelemetry.md maps the names.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry.trace import (
    NoOpTracer,
    SpanKind,
    Status,
    StatusCode,
    format_trace_id,
    get_current_span,
    set_span_in_context,
    use_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer
    from opentelemetry.util.types import AttributeValue

    from exporter.agent.usage import Usage

AGENT_NAME = "gen_ai.agent.name"
ERROR_TYPE = "error.type"
FINISH_REASONS = "gen_ai.response.finish_reasons"
OPERATION = "gen_ai.operation.name"
REQUEST_MODEL = "gen_ai.request.model"
TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
USAGE_CACHED = "gen_ai.usage.cache_read.input_tokens"
USAGE_INPUT = "gen_ai.usage.input_tokens"
USAGE_OUTPUT = "gen_ai.usage.output_tokens"
STAGE_OPERATIONS = {"embed": "embeddings", "search": "retrieval"}  # the conventions have none for reranking

_PROPAGATOR = TraceContextTextMapPropagator()


class AgentTracer:
    """Starts the spans of an agent; without a tracer they record nothing and cost some microseconds each."""

    def __init__(self, tracer: Tracer | None = None, agent: str = "agent") -> None:
        self._tracer = tracer or NoOpTracer()
        self._agent = agent

    @property
    def is_tracing(self) -> bool:
        """Whether its spans can be recorded."""
        return not isinstance(self._tracer, NoOpTracer)

    def question(self, context: Context | None = None) -> Span:
        """Start the span of a question inside the span that is current in `context`, by default the current context."""
        attributes = {OPERATION: "invoke_agent", AGENT_NAME: self._agent}
        return self._tracer.start_span(f"invoke_agent {self._agent}", context, attributes=attributes)

    def node(self, question: Span, node: str, hop: int) -> Span:
        """Start the span of a node visit."""
        return self._tracer.start_span(node, set_span_in_context(question), attributes=_place(node, hop))

    def stage(self, parent: Span, stage: str, hop: int) -> Span:
        """Start the span of a stage of retrieval."""
        attributes: dict[str, AttributeValue] = {"hop2rag.stage": stage, "hop2rag.hop": hop}
        if stage in STAGE_OPERATIONS:
            attributes[OPERATION] = STAGE_OPERATIONS[stage]
        return self._tracer.start_span(stage, set_span_in_context(parent), attributes=attributes)

    def call(self, parent: Span, node: str, hop: int) -> Span:
        """Start the span of an LLM call."""
        attributes = {OPERATION: "chat", **_place(node, hop)}
        return self._tracer.start_span("chat", set_span_in_context(parent), SpanKind.CLIENT, attributes)


NO_TRACING = AgentTracer()


@contextmanager
def current(span: Span) -> Iterator[None]:
    """Make a span current inside the block, where there is a trace; an exception leaves no message in it."""
    if not span.get_span_context().is_valid:
        yield
        return
    with use_span(span, record_exception=False, set_status_on_exception=False):
        yield


def current_or(span: Span) -> Span:
    """Return the current span, or `span` where there is none."""
    current = get_current_span()
    return current if current.get_span_context().is_valid else span


def fail(span: Span, kind: str) -> None:
    """Mark a span as failed by an error of a kind, such as a reason of `exporter.agent.instruments.ERROR_REASONS`."""
    span.set_attribute(ERROR_TYPE, kind)
    span.set_status(Status(StatusCode.ERROR))


def set_usage(span: Span, usage: Usage) -> None:
    """Set the tokens of a call, as the server counted them, and its finish reason; unknown ones are left out."""
    span.set_attribute(USAGE_INPUT, usage.prompt_tokens)
    span.set_attribute(USAGE_OUTPUT, usage.completion_tokens)
    if usage.cached_tokens is not None:
        span.set_attribute(USAGE_CACHED, usage.cached_tokens)
    if usage.finish_reason is not None:
        span.set_attribute(FINISH_REASONS, [usage.finish_reason])


def exemplar_of(span: Span) -> dict[str, str] | None:
    """Return the labels of an exemplar that leads to a span's trace, None where that trace is not exported."""
    context = span.get_span_context()
    if not (context.is_valid and context.trace_flags.sampled):
        return None
    return {"trace_id": format_trace_id(context.trace_id)}


def trace_headers(span: Span) -> dict[str, str]:
    """Return the W3C headers (`traceparent`) that nest a server's spans under this one; empty without a trace."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, set_span_in_context(span))
    return carrier


def _place(node: str, hop: int) -> dict[str, AttributeValue]:
    return {"hop2rag.node": node, "hop2rag.hop": hop}

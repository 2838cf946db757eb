"""Spans of a question: how they nest, and what they contain and never contain."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from exporter.agent.spans import AgentTracer
from tests.stubs.agent import StubStore, agent_of, bench, document
from tests.stubs.vllm import StubVllm, Turn, by_node
from workload.agent.llm import Llm
from workload.agent.state import LLM_NODES, NODES

if TYPE_CHECKING:
    import openai
    from opentelemetry.sdk.trace import ReadableSpan

    from workload.agent.metering import Meter

ENOUGH = json.dumps({"enough": "yes", "missing": ""})
NOT_ENOUGH = json.dumps({"enough": "no", "missing": "the year"})


@pytest.fixture
def exported() -> InMemorySpanExporter:
    """Return where spans end up."""
    return InMemorySpanExporter()


@pytest.fixture
def meter(exported: InMemorySpanExporter) -> Meter:
    """Return a meter that traces."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exported))
    return bench(tracer=AgentTracer(provider.get_tracer("test"), "Hop2Rag")).meter


async def ask(client: openai.AsyncOpenAI, meter: Meter, text: str = "When?", **more: Any) -> None:
    """Ask one question as the driver does."""
    question = meter.question("0", "bridge")
    question.open({"question_id": "q1"})
    answer = await agent_of(client, max_hops=2, **more).answer({"question": text}, question)
    question.close("failed" if answer.reason else "ok", answer.termination, answer.hops, {"reason": answer.reason})


def parent_of(span: ReadableSpan, spans: tuple[ReadableSpan, ...]) -> ReadableSpan | None:
    """Return the span that a span lies in."""
    return next((other for other in spans if span.parent and other.context.span_id == span.parent.span_id), None)


def attribute(span: ReadableSpan, name: str) -> Any:
    """Return an attribute, None where there is none."""
    return (span.attributes or {}).get(name)


async def test_calls_lie_in_nodes_and_nodes_in_the_question(
    stub: StubVllm, client: openai.AsyncOpenAI, meter: Meter, exported: InMemorySpanExporter
) -> None:
    """A flat list of spans shows nothing that a histogram does not."""
    stub.script = by_node(decide=NOT_ENOUGH)
    await ask(client, meter)
    spans = exported.get_finished_spans()
    (root,) = [span for span in spans if span.parent is None]
    assert root.name == "invoke_agent Hop2Rag"
    assert (attribute(root, "hop2rag.question.id"), attribute(root, "hop2rag.question.hops")) == ("q1", 2)
    assert len({span.context.trace_id for span in spans}) == 1
    visits = [span for span in spans if span.name in NODES]
    assert {span.name for span in visits} == set(NODES)
    assert {parent_of(span, spans) for span in visits} == {root}
    calls = [span for span in spans if span.name == "chat"]
    assert len(calls) == 2 * 3 + 1
    for call in calls:
        visit = parent_of(call, spans)
        assert visit
        assert visit.name == attribute(call, "hop2rag.node") in LLM_NODES
        assert attribute(visit, "hop2rag.hop") == attribute(call, "hop2rag.hop") in {1, 2}
    stages = [span for span in spans if attribute(span, "hop2rag.stage")]
    assert {(span.name, parent.name) for span in stages if (parent := parent_of(span, spans))} == {
        ("embed", "retrieve"),
        ("search", "retrieve"),
        ("rerank", "grade"),
    }


async def test_the_server_learns_which_span_called_it(
    stub: StubVllm, client: openai.AsyncOpenAI, meter: Meter, exported: InMemorySpanExporter
) -> None:
    """The spans of vLLM nest under the one in the traceparent header; any other id would tear the trace apart."""
    await ask(client, meter)
    calls = [span for span in exported.get_finished_spans() if span.name == "chat"]
    reported = [headers["traceparent"].split("-") for headers in stub.headers]
    assert [(int(trace, 16), int(span, 16)) for _, trace, span, _ in reported] == [
        (call.context.trace_id, call.context.span_id) for call in calls
    ]
    assert all(version == "00" and int(flags, 16) & 1 for version, _, _, flags in reported)  # sampled


async def test_a_call_reports_the_servers_tokens(
    stub: StubVllm, client: openai.AsyncOpenAI, meter: Meter, exported: InMemorySpanExporter
) -> None:
    """A trace of an LLM is read for its tokens and times."""
    stub.script = by_node(decide=ENOUGH)
    question = meter.question("0", "bridge")
    await agent_of(client).answer({"question": "When?"}, question)
    calls = [span for span in exported.get_finished_spans() if span.name == "chat"]
    assert len(calls) == len(question.calls) == 4
    for call, row in zip(calls, question.calls, strict=True):
        assert attribute(call, "gen_ai.usage.input_tokens") == row["prompt_tokens"] > 0
        assert attribute(call, "gen_ai.usage.output_tokens") == row["completion_tokens"] > 0
        assert attribute(call, "gen_ai.usage.cache_read.input_tokens") == row["cached_tokens"]
        assert attribute(call, "gen_ai.response.time_to_first_chunk") == row["ttft_seconds"]
        assert attribute(call, "gen_ai.request.model") == "stub"


async def test_no_text_enters_a_span(
    stub: StubVllm, client: openai.AsyncOpenAI, meter: Meter, exported: InMemorySpanExporter
) -> None:
    """Spans leave the machine; what users ask and what documents say must not go with them, not even by an error."""
    store = StubStore(((document(1, "TOPSECRET passage."),),))
    stub.script = by_node(decide=NOT_ENOUGH, generate=Turn(status=400, message="TOPSECRET prompt was too TOPSECRET"))
    await ask(client, meter, "Who is TOPSECRET?", store=store)
    assert "TOPSECRET" in json.dumps(stub.requests)
    reported = "".join(span.to_json() for span in exported.get_finished_spans())
    assert "generate" in reported
    assert "TOPSECRET" not in reported


async def test_a_failure_has_its_reason(
    stub: StubVllm, client: openai.AsyncOpenAI, meter: Meter, exported: InMemorySpanExporter
) -> None:
    """Failed traces are looked for by their reason, the same word as in the metrics."""
    stub.script = lambda _: Turn(status=503)
    await ask(client, meter)
    failed = {span.name: span for span in exported.get_finished_spans() if span.status.status_code is StatusCode.ERROR}
    assert set(failed) == {"chat", "decompose", "invoke_agent Hop2Rag"}
    assert {attribute(span, "error.type") for span in failed.values()} == {"overloaded"}
    assert not any(span.events for span in failed.values())


async def test_each_question_is_a_trace(
    client: openai.AsyncOpenAI, meter: Meter, exported: InMemorySpanExporter
) -> None:
    """Questions follow one another in one task of a worker; they must not pile up in one trace."""
    await ask(client, meter)
    await ask(client, meter)
    roots = [span for span in exported.get_finished_spans() if span.parent is None]
    assert len({span.context.trace_id for span in roots}) == len(roots) == 2


async def test_a_call_outside_a_node_lies_in_its_question(
    client: openai.AsyncOpenAI, meter: Meter, exported: InMemorySpanExporter
) -> None:
    """A sweep of prompt lengths has no graph; its calls belong to their question all the same."""
    question = meter.question("0", "sweep")
    await Llm(client, "stub").compute(question, "generate", 1, [{"role": "user", "content": "?"}], 4)
    question.close("ok", "done", 0, {})
    call, root = exported.get_finished_spans()
    assert call.parent == root.context


async def test_without_a_collector_nothing_is_sent(stub: StubVllm, client: openai.AsyncOpenAI) -> None:
    """Off by default: a server whose tracing is off warns about each request that brings a trace."""
    await ask(client, bench().meter)
    assert stub.headers
    assert not any("traceparent" in headers for headers in stub.headers)

"""From a slow bucket of a histogram to the trace of the question that is in it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from exporter.agent.spans import AgentTracer
from exporter.web.server import MetricsServer
from tests.stubs.agent import agent_of, bench
from tests.stubs.collector import collector
from workload.services.tracing import exported_spans

if TYPE_CHECKING:
    import openai

    from tests.stubs.agent import Bench

# As Prometheus asks: it takes either format, and prefers OpenMetrics.
ACCEPT = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"}
QUESTIONS = 6


async def ask(client: openai.AsyncOpenAI, under_test: Bench) -> None:
    """Ask some questions at the same time."""

    async def ask_one(number: int) -> None:
        question = under_test.meter.question(str(number), "bridge")
        answer = await agent_of(client).answer({"question": "When?"}, question)
        question.close("failed" if answer.reason else "ok", answer.termination, answer.hops, {"reason": answer.reason})

    await asyncio.gather(*map(ask_one, range(QUESTIONS)))


async def scrape(under_test: Bench, *, has_exemplars: bool) -> dict[str, set[str]]:
    """Return the trace ids that each metric's exemplars carry, as a scrape finds them."""
    with MetricsServer(under_test.registry, has_exemplars=has_exemplars) as server:
        async with httpx.AsyncClient() as http:
            page = await http.get(f"http://{server.start()}/metrics", headers=ACCEPT)
    assert page.headers["content-type"].startswith("application/openmetrics-text") is has_exemplars
    if not has_exemplars:
        assert "trace_id" not in page.text
        return {}
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(page.text):
        if ids := {sample.exemplar.labels["trace_id"] for sample in family.samples if sample.exemplar}:
            found[family.name] = ids
    return found


async def test_every_exemplar_has_its_trace_at_the_collector(client: openai.AsyncOpenAI) -> None:
    """An exemplar whose trace is nowhere ends the way from a slow panel to its cause at an empty page."""
    with collector() as collecting:
        with exported_spans(collecting.url, {}) as tracer:
            under_test = bench(tracer=tracer)
            await ask(client, under_test)
            found = await scrape(under_test, has_exemplars=True)
        received = {span.trace_id.hex() for _, span in collecting.spans}
    assert set(found) == {
        "hop2rag_node_duration_seconds",
        "hop2rag_question_duration_seconds",
        "hop2rag_llm_call_duration_seconds",
        "hop2rag_llm_time_to_first_token_seconds",
        "hop2rag_retrieval_duration_seconds",
    }
    assert len(received) == QUESTIONS
    assert set().union(*found.values()) <= received


async def test_what_is_not_sampled_has_no_exemplar(client: openai.AsyncOpenAI) -> None:
    """With a sampler most traces are dropped; their ids lead nowhere."""
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    under_test = bench(tracer=AgentTracer(provider.get_tracer("test")))
    await ask(client, under_test)
    assert await scrape(under_test, has_exemplars=True) == {}
    assert under_test.value("hop2rag_question_duration_seconds_count") == QUESTIONS


async def test_without_tracing_the_page_stays_plain_text(client: openai.AsyncOpenAI) -> None:
    """OpenMetrics costs twice as much to render; who traces nothing does not pay for it."""
    under_test = bench()
    await ask(client, under_test)
    await scrape(under_test, has_exemplars=False)

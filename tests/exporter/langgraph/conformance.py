"""Compares the handler's report with the counts of the server and of the app, shape by shape and way by way.

`python -m tests.exporter.langgraph.conformance` prints the table.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from exporter.agent.spans import AgentTracer
from exporter.langgraph import MeteringHandler
from tests.exporter.langgraph import further_shapes  # noqa: F401 - it registers shapes
from tests.exporter.langgraph.bench import Bench
from tests.exporter.langgraph.shapes import ALL, Shape
from tests.stubs.vllm import StubVllm, Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Facts = Counter[tuple[str, ...]]
AT_ONCE = 3
LABELS = ("node", "outcome", "reason", "type", "stage")
SAMPLES = {
    "hop2rag_questions_total": "questions",
    "hop2rag_hops_sum": "hops",
    "hop2rag_node_duration_seconds_count": "visits",
    "hop2rag_node_failures_total": "failures",
    "hop2rag_llm_call_duration_seconds_count": "calls",
    "hop2rag_llm_errors_total": "errors",
    "hop2rag_prompt_tokens_total": "prompt",
    "hop2rag_cached_prompt_tokens_total": "cached",
    "hop2rag_completion_tokens_total": "completion",
    "hop2rag_retrieval_duration_seconds_count": "searches",
    "hop2rag_node_active": "still active",
    "hop2rag_metering_failures_total": "metering failures",
    "hop2rag_llm_calls_without_usage_total": "without usage",
}


def invoke(app: Any, given: Sequence[Any], configs: Sequence[Any]) -> None:
    """Ask one after the other."""
    for value, config in zip(given, configs, strict=True):
        app.invoke(value, config)


def stream(app: Any, given: Sequence[Any], configs: Sequence[Any]) -> None:
    """Ask, and read the answer as it arrives."""
    for value, config in zip(given, configs, strict=True):
        for _ in app.stream(value, config):
            pass


def batch(app: Any, given: Sequence[Any], configs: Sequence[Any]) -> None:
    """Ask all at once."""
    app.batch(list(given), list(configs), return_exceptions=True)


def threads(app: Any, given: Sequence[Any], configs: Sequence[Any]) -> None:
    """Ask from threads of the app's own."""
    with ThreadPoolExecutor(len(given)) as pool:
        asked = [pool.submit(app.invoke, *one) for one in zip(given, configs, strict=True)]
    for one in asked:
        one.result()


async def ainvoke(app: Any, given: Sequence[Any], configs: Sequence[Any]) -> None:
    """Ask one after the other."""
    for value, config in zip(given, configs, strict=True):
        await app.ainvoke(value, config)


async def astream_events(app: Any, given: Sequence[Any], configs: Sequence[Any]) -> None:
    """Ask, and read every event."""
    for value, config in zip(given, configs, strict=True):
        async for _ in app.astream_events(value, config, version="v2"):
            pass


async def cancelled(app: Any, given: Sequence[Any], configs: Sequence[Any]) -> None:
    """Ask, and leave before the answer."""
    await app.ainvoke(given[0], configs[0])


SYNC: dict[str, Callable[..., None]] = {"invoke": invoke, "stream": stream, "batch": batch, "threads": threads}
ASYNC: dict[str, Callable[..., Any]] = {"ainvoke": ainvoke, "astream_events": astream_events}
WAYS = (*SYNC, *ASYNC, "cancelled")


@dataclass
class Case:
    """A shape that is asked in a way."""

    shape: Shape
    way: str
    server: Any
    served: str = "stub"

    def measure(self) -> None:
        """Ask."""
        self.exported = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exported))
        self.handler = MeteringHandler(tracer=AgentTracer(provider.get_tracer("conformance"), "app"))
        bench = Bench(self.server.url, self.handler, self.served, self.way not in SYNC)
        app = self.shape.build(bench)
        self.asked = AT_ONCE if self.way in {"batch", "threads"} else 1
        with suppress(ValueError):
            if self.way in SYNC:
                self._turns(app, SYNC[self.way])
                for thread in bench.background:
                    thread.join()
            else:
                asyncio.run(self._await(app, bench))

    def _turns(self, app: Any, ask: Callable[..., Any]) -> list[Any]:
        return [ask(app, *self._turn(turn)) for turn in self.shape.turns]

    def _turn(self, turn: Any) -> tuple[list[Any], list[Any]]:
        texts = [f"Question {number} of {self.shape.name}" for number in range(self.asked)]
        configs = [{"callbacks": [self.handler], "configurable": {"thread_id": text}} for text in texts]
        if "unmetered" in self.shape.name or "on_the" in self.shape.name:
            configs = [{"configurable": config["configurable"]} for config in configs]
        return [{"text": text} if turn is None else turn for text in texts], configs

    async def _await(self, app: Any, bench: Bench) -> None:
        if self.way != "cancelled":
            for turn in self.shape.turns:
                await ASYNC[self.way](app, *self._turn(turn))
            await asyncio.gather(*bench.background)
            return
        arrived = asyncio.Event()
        loop = asyncio.get_running_loop()

        def hang(_: Any) -> Turn:
            if not loop.is_closed():
                loop.call_soon_threadsafe(arrived.set)
            return Turn(after=1, then="hang")

        self.server.script = hang
        asking = asyncio.create_task(cancelled(app, *self._turn(None)))
        await asyncio.wait([asking, asyncio.create_task(arrived.wait())], return_when=asyncio.FIRST_COMPLETED)
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking

    def reported(self) -> Facts:
        """Return the facts that the handler reports."""
        facts: Facts = Counter()
        for family in self.handler.registry.collect():
            for sample in family.samples:
                if name := SAMPLES.get(sample.name):
                    labels = [sample.labels[label] for label in LABELS if label in sample.labels]
                    facts[name, *labels] += int(sample.value)
        facts["still open",] = len(self.handler._runs)
        spans = self.exported.get_finished_spans()
        facts["traces",] = len({span.context.trace_id for span in spans})
        facts["question spans",] = sum(span.name == "invoke_agent app" for span in spans)
        facts["error spans",] = sum(not span.status.is_ok and not span.status.is_unset for span in spans)
        return +facts

    def known(self) -> Facts:
        """Return the facts that the server counted and that the shape states."""
        shape, asked = self.shape, self.asked
        questions = asked * shape.questions
        facts: Facts = Counter(
            {
                ("questions", shape.outcome): questions,
                ("hops", "other"): asked * shape.hops if shape.outcome == "ok" else 0,
                ("searches", "search"): asked * shape.searches,
                ("traces",): questions,
                ("question spans",): questions,
            }
        )
        for node, visits in shape.visits.items():
            facts["visits", node] = asked * visits
        for node, failures in shape.failures.items():
            facts["failures", node] = asked * failures
        for node, errors in shape.errors.items():
            facts["errors", node, "connection"] = asked * errors
        failed = sum(shape.failures.values()) + sum(shape.errors.values())
        facts["error spans",] = asked * (failed + (shape.outcome == "failed"))
        for node, counts in self.server.answered.items():
            for name, count in counts.items():
                facts[name, node] = count
        return +facts

    def findings(self) -> list[str]:
        """Return the facts that are wrong or missing."""
        reported, known = self.reported(), self.known()
        if self.way == "cancelled":
            return list(self._findings_of_cancelled(reported))
        return [
            f"{'missing' if not reported[fact] else 'wrong'}: {' '.join(fact)} {reported[fact]}, not {known[fact]}"
            for fact in sorted({*reported, *known})
            if reported[fact] != known[fact]
        ]

    def _findings_of_cancelled(self, reported: Facts) -> list[str]:
        known = {("questions", "cancelled"): 1, ("still open",): 0, ("metering failures",): 0, ("question spans",): 1}
        found = [
            f"wrong: {' '.join(fact)} {reported[fact]}, not {count}"
            for fact, count in known.items()
            if reported[fact] != count
        ]
        lost = [fact for fact in reported if fact[0] == "still active" or fact[:2] == ("questions", "ok")]
        if not any(fact[0] == "errors" and fact[-1] == "cancelled" for fact in reported):
            found.append("missing: a cancelled call")
        return found + [f"wrong: {' '.join(fact)}" for fact in lost]


def findings_of(shape: Shape, way: str, server: StubVllm) -> list[str]:
    """Ask a shape in a way, and return the facts that are wrong or missing."""
    server.answered.clear()
    server.script = lambda _: Turn("Forty two.")
    case = Case(shape, way, server)
    case.measure()
    return case.findings()


def main() -> int:
    """Print the table."""
    total: Counter[str] = Counter()
    with StubVllm() as server:
        print(f"| shape | {' | '.join(WAYS)} |\n|---|{'---|' * len(WAYS)}")
        for shape in ALL:
            cells = []
            for way in WAYS:
                found = findings_of(shape, way, server)
                total.update([line.partition(":")[0] for line in found] or ["right"])
                cells.append("; ".join(found) or "right")
            print(f"| {shape.name.replace('_', ' ')} | {' | '.join(cells)} |", flush=True)
    print(f"\n{len(ALL)} shapes x {len(WAYS)} ways: {dict(total)}; {time.process_time():.1f} s of CPU time")
    return int(set(total) != {"right"})


if __name__ == "__main__":
    sys.exit(main())

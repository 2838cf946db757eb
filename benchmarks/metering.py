"""Measure what metering costs: a node visit, and the share of a question, with and without the journal.

Usage: python benchmarks/metering.py [--pairs 10] [--endpoint http://127.0.0.1:8000 --model NAME]

The share is judged by replaying a question's records without its waits, the wait for the disk included; that resolves
microseconds. Beside it the same questions are asked with and without metering, in pairs of changing order, of an engine
(--endpoint) or of a stub server whose calls take --seconds-a-call, by default far less than those of the CPU engine:
a check that nothing was left out of the replay, as fine as its interval. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from machine import describe
from opentelemetry.trace import INVALID_SPAN

from exporter.agent.recorder import AgentQuestion
from exporter.agent.usage import Usage
from tests.stubs.agent import StubEmbedder, StubStore, bench, client_of
from tests.stubs.vllm import StubVllm, Turn
from workload.agent.calls import CallMeter
from workload.agent.graph import Hop2Rag
from workload.agent.llm import Llm
from workload.agent.metering import Meter, QuestionMeter
from workload.agent.nodes import Hop2RagNodes
from workload.agent.retrieval import Retrieval
from workload.agent.state import NODES
from workload.record.journal import Journal
from workload.statistics.paired import compare

if TYPE_CHECKING:
    from collections.abc import Iterator

VISIT_BAR_MICROSECONDS = 50
SHARE_BAR = 0.005
GAP_BAR_MS = 1.0
VISITS = 5_000
ROUNDS = 5
HOPS = 3
LOOP = NODES[1:7]
CALLS = {"decompose", "extract_clues", "decide", "generate"}
# What natural prompts of the agent are like; see EXPERIMENTS.md, context growth.
PROMPT_TOKENS, OUTPUT_TOKENS = 430, 40
CONFIG = {"benchmark": "metering"}


class SilentQuestion(QuestionMeter):
    """Records nothing: the graph as it would be without metering."""

    @contextmanager
    def node(self, name: str, hop: int) -> Iterator[None]:  # noqa: ARG002 - the signature of what it stands in for
        """Do nothing."""
        yield

    stage = node

    @contextmanager
    def call(self, node: str, hop: int, retry: int = 0) -> Iterator[CallMeter]:  # noqa: ARG002 - as above
        """Give a call that forgets."""
        yield SilentCall()


class SilentCall(CallMeter):
    """Forgets everything."""

    def __init__(self) -> None:
        self.span, self.ttft, self.reason = INVALID_SPAN, None, None

    def first_token(self) -> None:
        """Do nothing."""

    def prompt_ids(self, ids: Any) -> None:
        """Do nothing."""

    def finished(self, usage: Usage, output_ids: Any) -> None:
        """Do nothing."""


def visit_microseconds(meter: Meter) -> float:
    """Return the cost of one node visit in the best of some rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        question = meter.question("0", "bridge")
        start = time.perf_counter()
        for _ in range(VISITS):
            with question.node("grade", 1):
                pass
        best = min(best, time.perf_counter() - start)
    return best / VISITS * 1e6


def call_of(question: QuestionMeter, node: str, hop: int, number: int) -> None:
    """Record one LLM call as a stream would."""
    with question.call(node, hop) as call:
        call.prompt_ids(range(number, number + PROMPT_TOKENS))
        call.first_token()
        call.finished(Usage(PROMPT_TOKENS, OUTPUT_TOKENS, 0, "stop"), range(OUTPUT_TOKENS))


async def replay_seconds(meter: Meter, number: int) -> tuple[float, float]:
    """Return the cost of a question's records, and of that the wait for the disk, in seconds."""
    start = time.perf_counter()
    question = meter.question("0", "bridge", "salt")
    place = {"arm": "a", "block": 0, "phase": "c1", "segment": 0, "attempt": 1}
    question.open({**place, "question_id": f"q{number}"})
    for hop, name in [
        (1, NODES[0]),
        *((hop, name) for hop in range(1, HOPS + 1) for name in LOOP),
        *((HOPS, n) for n in NODES[7:]),
    ]:
        with question.node(name, hop):
            if name in CALLS:
                call_of(question, name, hop, number)
            for stage in {"retrieve": ("embed", "search"), "grade": ("rerank",)}.get(name, ()):
                with question.stage(stage, hop):
                    pass
    question.close("ok", "max_hops", HOPS, {"answer": "Nobody knows."})
    recorded = time.perf_counter()
    await meter.acknowledge()
    end = time.perf_counter()
    return end - start, end - recorded


def gaps_ms(question: QuestionMeter) -> list[float]:
    """Return the time from the end of each visit to the start of the next: LangGraph's own work."""
    visits = [visit for visit in question.visits if "node" in visit]  # not the stages inside them
    return [
        1e3 * (after["started_at"] - before["started_at"] - before["duration_seconds"])
        for before, after in pairwise(visits)
    ]


async def question_seconds(agent: Hop2Rag, meter: Meter, number: int, gaps: list[float], *, is_metered: bool) -> float:
    """Return how long one question takes, its acknowledgement included; `gaps` gets those between its visits, in ms."""
    kind = QuestionMeter if is_metered else SilentQuestion
    now = meter.recorder.clock()
    salt = f"{number}-{is_metered}"
    question = kind(meter=meter, worker="0", salt=salt, question=AgentQuestion(meter.recorder), started=now, anchor=0.0)
    start = time.perf_counter()
    if is_metered:
        place = {"arm": "a", "block": 0, "phase": "c1", "segment": 0, "attempt": 1}
        question.open({**place, "question_id": f"p{number}"})
    answer = await agent.answer({"question": f"Question {number}: when was the Tin Choir founded?"}, question)
    if answer.reason:
        raise SystemExit(f"The engine failed: {answer.reason}")
    if is_metered:
        question.close("ok", answer.termination, answer.hops, {})
        await meter.acknowledge()
    seconds = time.perf_counter() - start
    gaps += gaps_ms(question)
    return seconds


async def paired(
    url: str, model: str, meter: Meter, pairs: int
) -> tuple[dict[str, float], dict[str, float], list[float]]:
    """Return seconds by question without and with metering, the order changing from pair to pair, and gaps in ms."""
    gaps: list[float] = []
    seconds: dict[bool, dict[str, float]] = {False: {}, True: {}}
    async with client_of(url, 300) as client:
        agent = Hop2Rag(
            Hop2RagNodes(Llm(client, model, timeout_seconds=300), Retrieval(StubEmbedder(), StubStore()), max_hops=HOPS)
        )
        await question_seconds(agent, meter, -1, [], is_metered=True)
        for number in range(pairs):
            for is_metered in (False, True) if number % 2 else (True, False):
                took = await question_seconds(agent, meter, number, gaps, is_metered=is_metered)
                seconds[is_metered][str(number)] = took
    return seconds[False], seconds[True], gaps


def measure(url: str, model: str, pairs: int, what: str) -> int:
    """Measure, print the table and return the exit code."""
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "journal.sqlite", CONFIG) as journal:
        bare, whole = bench().meter, bench(journal=journal).meter
        visits = visit_microseconds(bare), visit_microseconds(whole)

        async def replays(meter: Meter) -> list[tuple[float, float]]:
            return [await replay_seconds(meter, number) for number in range(50)]

        bare_costs, whole_costs = (asyncio.run(replays(meter)) for meter in (bare, whole))
        off, on, gaps = asyncio.run(paired(url, model, whole, pairs))
    costs = [statistics.median(column) * 1e3 for column in zip(*whole_costs, strict=True)]
    found = compare(off, on)
    question = statistics.median(off.values())
    share = costs[0] / 1e3 / question
    gap = statistics.median(gaps)
    interval = " to ".join(f"{bound:+.2%}" for bound in found["change_ci"]) if found["change_ci"] else "no CI"
    rows = [
        ("node visit, without the journal", f"{visits[0]:.1f} us", f"<= {VISIT_BAR_MICROSECONDS} us"),
        ("node visit, with it", f"{visits[1]:.1f} us", ""),
        (f"gap between visits, median of {len(gaps)}", f"{gap:.2f} ms", f"<= {GAP_BAR_MS:.0f} ms"),
        ("    shortest, longest", f"{min(gaps):.2f} ms, {max(gaps):.2f} ms", ">= 0"),
        (
            "records of a question, without the journal",
            f"{statistics.median(c for c, _ in bare_costs) * 1e3:.2f} ms",
            "",
        ),
        ("records of a question, with it", f"{costs[0]:.2f} ms", ""),
        ("    of which waiting for the disk", f"{costs[1]:.2f} ms", ""),
        (f"question of {what}, without metering, median of {pairs}", f"{question:.3f} s", ""),
        ("records as a share of it", f"{share:.3%}", f"< {SHARE_BAR:.1%}"),
        ("measured change with metering, paired, 95 % CI", f"{found['change'] or 0:+.2%}, {interval}", ""),
    ]
    print(describe("langgraph", "openai", "prometheus-client"))
    width = max(len(row[0]) for row in rows)
    for title, value, bar in rows:
        print(f"{title:<{width}}  {value:>24}  {bar}")
    return int(visits[0] > VISIT_BAR_MICROSECONDS or share >= SHARE_BAR or gap > GAP_BAR_MS or min(gaps) < 0)


def main() -> int:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--endpoint")
    parser.add_argument("--model", default="stub")
    parser.add_argument("--seconds-a-call", type=float, default=0.3)
    given = parser.parse_args()
    if given.endpoint:
        return measure(given.endpoint, given.model, given.pairs, "the engine")
    with StubVllm() as stub:
        stub.script = lambda _: Turn(seconds=given.seconds_a_call)
        return measure(stub.url, "stub", given.pairs, "the stub")


if __name__ == "__main__":
    sys.exit(main())

"""Measure what speculative retrieval brings when its drafts are right as often as planted, against its bound.

Usage: python benchmarks/prefetch.py [--questions 24] [--in-flight 8]

The agent, its graph, its metering and its prefetch are the real ones; the engine is a stub whose calls only take their
time, and a search waits for the latency planted. So the table is about the prefetch alone: an engine that is slowed
down by searches on its own cores would show less. Each arm runs twice, in ABBA order. A question takes three hops; a
draft is made before the first query and after each `extract_clues`. Exit code 1 if less than 70 % of the critical-path
bound is reached.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

from machine import describe

from tests.stubs.agent import StubEmbedder, StubStore, bench, client_of
from tests.stubs.vllm import StubVllm, Turn
from workload.agent.graph import Hop2Rag
from workload.agent.nodes import Hop2RagNodes
from workload.agent.prefetch import Planted, Prefetch
from workload.agent.replay import Recorded, ReplayLlm
from workload.agent.retrieval import Retrieval
from workload.analysis.ab import end_to_end
from workload.analysis.prefetch_outcome import bound_by_question, draft_outcomes, share_of_bound
from workload.corpus.hotpotqa import Question
from workload.harness.driver import Driver, Phase
from workload.harness.health_gate import EngineGate
from workload.harness.loops import Tally
from workload.record.journal import Journal
from workload.record.results import read_run
from workload.statistics.paired import compare

if TYPE_CHECKING:
    from workload.agent.replay import Script

BAR = 0.7
HOPS = 3
CALL_SECONDS = 0.25
LATENCIES_SECONDS = (0.2, 1.2)
ACCURACIES = (0.0, 0.5, 0.9)


def script_of(questions: int) -> Script:
    """Return a record of questions of three hops, each with queries of its own."""
    loop = ("decompose", "extract_clues", "decide")
    script = {}
    for number in range(questions):
        replies = [_reply(node, f"query {hop} of {number}") for hop in range(HOPS) for node in loop]
        script[f"q{number}"] = (*(Recorded(*reply, 4) for reply in replies), Recorded("generate", "an answer", 4))
    return script


def _reply(node: str, text: str) -> tuple[str, str]:
    said = {"decompose": {"query": text}, "extract_clues": {"clues": [text]}, "decide": {"missing": "", "enough": "no"}}
    return node, json.dumps(said[node])


async def ask(
    server: StubVllm, journal: Journal, script: Script, latency: float, wanted: float | None, block: int, n: int
) -> None:
    """Ask all questions under an arm named by its planted accuracy, `off` without prefetch."""
    questions = [
        Question(
            id=name,
            question=f"Question {name}?",
            answer="x",
            type="bridge",
            level="easy",
            supporting_facts=(),
            context=(),
        )
        for name in script
    ]
    async with client_of(server.url, 60) as client:
        retrieval = Retrieval(StubEmbedder(), StubStore(), 10, delay_seconds=latency)
        prefetch = None if wanted is None else Prefetch(retrieval, "planted", Planted(script, wanted))
        llm = ReplayLlm(client, "stub", script=script)
        agent = Hop2Rag(Hop2RagNodes(llm, retrieval, max_hops=HOPS, prefetch=prefetch))
        driver = Driver(agent, bench(journal=journal).meter, EngineGate(lambda: None))
        phase = Phase(arm=name_of(wanted), block=block, name="c1", segment=0, salt=f"{name_of(wanted)} {block}")
        tally = Tally(len(questions))
        await driver.run(phase, questions, n, tally=tally, advance=partial(int))
        assert tally.ok == len(questions), tally


def name_of(accuracy: float | None) -> str:
    """Return an arm's name."""
    return "off" if accuracy is None else f"accuracy {accuracy:g}"


def measure(latency: float, questions: int, in_flight: int) -> bool:
    """Print a row for each accuracy at one latency; return whether the bar was met."""
    script = script_of(questions)
    met = True
    with tempfile.TemporaryDirectory() as folder, StubVllm(caching=False) as server:
        server.script = lambda _: Turn("x", seconds=CALL_SECONDS)
        path = Path(folder) / "journal.sqlite"
        with Journal(path, {}) as journal:
            arms = (None, *ACCURACIES)
            for block, wanted in enumerate((*arms, *reversed(arms))):  # ABBA: drift of the machine falls on all alike
                asyncio.run(ask(server, journal, script, latency, wanted, block, in_flight))
        data = read_run(path, ())
        off = data.by_question("off", end_to_end)
        for accuracy in ACCURACIES:
            arm = name_of(accuracy)
            rows = [row for row in data.prefetches if row["arm"] == arm]
            on = data.by_question(arm, end_to_end)
            bound = bound_by_question(data, "off", rows, "planted")
            reached = share_of_bound(data, "off", arm, bound)
            found, drafts = compare(off, on), draft_outcomes(rows)
            assert found["change"] is not None and found["change_ci"] is not None and drafts is not None  # noqa: PT018
            met = met and (reached is None or reached["share"] >= BAR)
            told_of_bound = "- | nothing to save | -"
            if reached:
                told_of_bound = (
                    f"{reached['saved_seconds']:.3f} s | {reached['bound_seconds']:.3f} s | {reached['share']:.0%}"
                )
            low, high = found["change_ci"]
            print(
                f"| {latency:.1f} s | {accuracy:g} | {drafts['used']} of {drafts['needed']} | {found['a']:.2f} s "
                f"| {found['change']:+.1%} [{low:+.1%}, {high:+.1%}] | {told_of_bound} "
                f"| {drafts['wasted_seconds']:.1f} s |"
            )
    return met


def main() -> int:
    """Measure, print the table, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--in-flight", type=int, default=8)
    given = parser.parse_args()
    print(
        "| latency | planted | right drafts | off, median | change, paired [95 %] | saved, mean | bound | "
        "share of bound | wasted search time |\n|---|---|---|---|---|---|---|---|---|"
    )
    met = [measure(latency, given.questions, given.in_flight) for latency in LATENCIES_SECONDS]
    print(
        f"\n{given.questions} questions of {HOPS} hops, {given.in_flight} in flight, STUB engine with calls of "
        f"{CALL_SECONDS} s; {describe('langgraph', 'openai')}"
    )
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())

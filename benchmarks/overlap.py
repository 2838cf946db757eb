"""Measure what it brings that embedding and search overlap other workers' generation, and that queries share a batch.

Usage: python benchmarks/overlap.py [--questions 24] [--in-flight 8]

Embedding model and Chroma store are the real ones; the engine is a stub whose calls only take their time, so that all
of the machine's cores are left to retrieval: on a machine whose engine is a GPU it is like this. Three ways to execute
the same retrieval: on the event loop (`blocking`), in threads (the default), in threads with queries that wait at the
same time embedded together (`batched`). Each runs twice, in ABBA order.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

sys.path.insert(0, str(Path(__file__).parents[1]))

from machine import describe
from rich.console import Console
from rich.progress import Progress

from tests.stubs.agent import bench, client_of
from tests.stubs.vllm import StubVllm, Turn
from workload.agent.graph import Hop2Rag
from workload.agent.nodes import Hop2RagNodes
from workload.agent.replay import Recorded, ReplayLlm
from workload.agent.retrieval import Retrieval
from workload.analysis.ab import end_to_end
from workload.corpus.default import open_corpus
from workload.corpus.embedding import MiniLmEmbedder
from workload.corpus.hotpotqa import draw
from workload.harness.driver import Driver, Phase
from workload.harness.health_gate import EngineGate
from workload.harness.loops import Tally
from workload.record.journal import Journal
from workload.record.results import read_run
from workload.settings import Execution, load_settings
from workload.statistics.paired import compare

if TYPE_CHECKING:
    from workload.agent.replay import Script
    from workload.corpus.hotpotqa import Question

HOPS = 3
CALL_SECONDS = 0.1
LOOP = ("decompose", "extract_clues", "decide")


def script_of(questions: tuple[Question, ...]) -> Script:
    """Return a record of three hops a question, each of which searches for the title of one of its passages."""

    def reply(node: str, text: str) -> Recorded:
        said = {"decompose": {"query": text}, "extract_clues": {"clues": []}, "decide": {"missing": "", "enough": "no"}}
        return Recorded(node, json.dumps(said[node]), 4)

    script = {}
    for question in questions:
        titles = [paragraph.title for paragraph in question.context][:HOPS]
        loop = [reply(node, title) for title in titles for node in LOOP]
        script[question.id] = (*loop, Recorded("generate", "an answer", 4))
    return script


async def ask(
    server: StubVllm, journal: Journal, asked: tuple[Question, ...], retrieval: Retrieval, block: int, n: int
) -> float:
    """Ask all questions under an arm named by its execution; return the seconds that it took."""
    async with client_of(server.url, 60) as client:
        llm = ReplayLlm(client, "stub", script=script_of(asked))
        agent = Hop2Rag(Hop2RagNodes(llm, retrieval, max_hops=HOPS))
        driver = Driver(agent, bench(journal=journal).meter, EngineGate(lambda: None))
        tally = Tally(len(asked))
        start = time.perf_counter()
        phase = Phase(arm=retrieval.execution, block=block, name="c1", segment=0, salt=f"{retrieval.execution} {block}")
        await driver.run(phase, asked, n, tally=tally, advance=partial(int))
        seconds = time.perf_counter() - start
        assert tally.ok == len(asked), tally
        return seconds


def main() -> int:
    """Measure, print the table, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--in-flight", type=int, default=8)
    given = parser.parse_args()
    embedder = MiniLmEmbedder()
    with Progress(console=Console(stderr=True)) as progress:
        settings = load_settings({"limit": 1, "max_hops": 1, "k": 10})
        corpus = open_corpus(settings.corpus, settings.places.chroma_url, embedder, progress)
    embedder.load()
    asked = draw(corpus.questions, given.questions, 0)
    arms: tuple[Execution, ...] = get_args(Execution)
    seconds: dict[str, list[float]] = {arm: [] for arm in arms}
    with tempfile.TemporaryDirectory() as folder, StubVllm(caching=False) as server:
        server.script = lambda _: Turn("x", seconds=CALL_SECONDS)
        path = Path(folder) / "journal.sqlite"
        with Journal(path, {}) as journal:
            for block, arm in enumerate((*arms, *reversed(arms))):
                retrieval = Retrieval(embedder, corpus.store, 10, arm)
                taken = asyncio.run(ask(server, journal, asked, retrieval, block, given.in_flight))
                seconds[arm].append(taken)
        data = read_run(path, ())
    print("| retrieval | questions/s, whole run | question, median | paired change [95 %] | embed + search |")
    print("|---|---|---|---|---|")
    first = data.by_question("blocking", end_to_end)
    for arm in ("blocking", "threads", "batched"):
        found = compare(first, data.by_question(arm, end_to_end))
        low, high = found["change_ci"] or (float("nan"),) * 2
        stages = [row["duration_seconds"] for row in data.stages if row["arm"] == arm and row["stage"] != "rerank"]
        each = 1000 * sum(stages) / (2 * HOPS * len(asked))
        rate = 2 * len(asked) / sum(seconds[arm])
        print(
            f"| {arm} | {rate:.2f} | {found['b']:.2f} s "
            f"| {found['change']:+.1%} [{low:+.1%}, {high:+.1%}] | {each:.0f} ms |"
        )
    print(
        f"\n{given.questions} questions of {HOPS} hops, {given.in_flight} in flight, STUB engine with calls of "
        f"{CALL_SECONDS} s; {describe('sentence-transformers', 'chromadb', 'torch')}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`hop2rag ask`: one question, and what each node did with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from workload.corpus.default import open_corpus
from workload.corpus.embedding import MiniLmEmbedder
from workload.engine.profile import PROFILES
from workload.run import greet, launcher_of
from workload.subject import subject

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from workload.agent.graph import Answer
    from workload.settings import Settings

TOKEN_COLUMNS = ("prompt_tokens", "cached_tokens", "reusable_tokens", "completion_tokens")


@dataclass(frozen=True)
class Answered:
    """An answer with the records of its node visits and LLM calls."""

    answer: Answer
    visits: list[dict[str, Any]]
    calls: list[dict[str, Any]]

    def show(self, console: Console) -> None:
        """Print the trace and the answer."""
        table = Table("node", "hop", "seconds", "TTFT s", "prompt", "cached", "bound", "generated", box=None)
        started = {(call["node"], call["hop"]): call for call in self.calls}
        for visit in self.visits:
            if "node" not in visit:
                name = f"  {visit['stage']}"
                table.add_row(name, str(visit["hop"]), f"{visit['duration_seconds']:.3f}", style="dim")
                continue
            call = started.get((visit["node"], visit["hop"]))
            tokens = [_cell(call.get(column)) for column in TOKEN_COLUMNS] if call else []
            ttft = f"{call['ttft_seconds']:.3f}" if call and call["ttft_seconds"] is not None else ""
            seconds = f"{visit['duration_seconds']:.3f}"
            table.add_row(visit["node"], str(visit["hop"]), seconds, ttft, *tokens)
        console.print(table)
        for hop, query in enumerate(self.answer.trajectory["queries"], start=1):
            console.print(f"query {hop}: {query}", markup=False)
        for title, sentence in self.answer.supporting_facts:
            console.print(f"supporting fact: {title}, sentence {sentence}", markup=False)
        end = self.answer.reason or f"{self.answer.termination} after {self.answer.hops} hops"
        console.print(f"[bold]Answer:[/] {self.answer.answer or '(none)'}  ({end})")


def _cell(tokens: int | None) -> str:
    return "" if tokens is None else str(tokens)


def ask_once(question: str, settings: Settings, progress: Progress) -> Answered:
    """Answer one question on the running engine, or on one that is started for it."""
    embedder = MiniLmEmbedder()
    greet(settings)
    corpus = open_corpus(settings, embedder, progress)
    embedder.load()
    with (
        launcher_of(settings, progress.console).start(PROFILES["base"]) as engine,
        subject(engine, settings, corpus.store, embedder) as under_test,
    ):
        meter = under_test.meter.question("0", "other")
        answer = under_test.run(under_test.driver.agent.answer(question, meter))
        meter.close("failed" if answer.reason else "ok", answer.termination, answer.hops, {"reason": answer.reason})
    return Answered(answer, meter.visits, meter.calls)

"""Speculative retrieval: retrieves for a draft of the next query while the model still writes the actual query.

A draft counts only if the query turns out to be the same text, so the documents are the same as without it, given a
deterministic store. Every other draft is wasted work, and counted as such.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from workload.agent.draft import Draft

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workload.agent.metering import QuestionMeter
    from workload.agent.replay import Recorded
    from workload.agent.retrieval import Retrieval
    from workload.agent.state import Hop2RagState
    from workload.corpus.document import Document
    from workload.settings import DraftSource


@dataclass(frozen=True)
class Planted:
    """Drafts from a replayed recording; a random share `accuracy` of them is right, drawn per question and hop."""

    script: Mapping[str, Sequence[Recorded]]
    accuracy: float
    seed: int = 0

    def query(self, hop: int, meter: QuestionMeter) -> str:
        """Return the draft for a hop: the query that the replay will write, or a wrong one."""
        coming = self.script.get(meter.question_id, ())[len(meter.calls) :]
        reply = next((recorded.reply for recorded in coming if recorded.node == "decompose"), "")
        is_right = Random(f"{self.seed}/{meter.question_id}/{hop}").random() < self.accuracy
        return query_in(reply) if is_right else f"not {query_in(reply)}"


def query_in(reply: str) -> str:
    """Return the query in a reply of `decompose`; empty if there is none."""
    try:
        return str(json.loads(reply)["query"]).strip()
    except (ValueError, KeyError, TypeError):
        return ""


@dataclass(frozen=True)
class Prefetch:
    """Starts drafts after the nodes whose output suggests one."""

    retrieval: Retrieval
    source: DraftSource = "off"
    planted: Planted | None = None
    tasks: set[asyncio.Task[tuple[list[Document], float]]] = field(default_factory=set)

    def after(self, node: str, state: Hop2RagState, max_hops: int, meter: QuestionMeter) -> Draft | None:
        """Start and return the draft that `state` suggests after `node`; None if it suggests none."""
        hop = state["hop"] + (node == "extract_clues")
        if self.source == "off" or hop > max_hops or not (query := self._query(node, state, hop, meter)):
            return None
        started = meter.recorder.clock()
        work = asyncio.create_task(self._find(query, meter))
        self.tasks.add(work)  # the event loop keeps only a weak reference
        work.add_done_callback(self._forget)
        return Draft(query, hop, started, work)

    def _query(self, node: str, state: Hop2RagState, hop: int, meter: QuestionMeter) -> str:
        if self.planted and node in {"initialize", "extract_clues"}:
            return self.planted.query(hop, meter)
        if node == "initialize":
            return state["question"]
        if node == "extract_clues" and self.source == "last-clue":
            return state["clues"][-1] if state["clues"] else ""
        return state["missing"] if node == "decide" and self.source == "missing-fact" else ""

    async def _find(self, query: str, meter: QuestionMeter) -> tuple[list[Document], float]:
        with meter.recorder.busy.busy("retrieval"):
            documents = await self.retrieval.search(await self.retrieval.embed(query))
        return documents, meter.recorder.clock()

    def _forget(self, work: asyncio.Task[tuple[list[Document], float]]) -> None:
        self.tasks.discard(work)
        if not work.cancelled():
            work.exception()  # a failed draft that is not claimed is wasted like any other

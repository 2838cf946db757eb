"""The nodes of Hop2Rag: each takes the state and the question's meter and returns what it changes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from workload.agent import ranking
from workload.agent.prompts import DONE, Clues, Decision, Decomposition, Layout, messages

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from workload.agent.llm import Llm
    from workload.agent.metering import QuestionMeter
    from workload.agent.state import Hop2RagState, Message
    from workload.corpus.document import Document
    from workload.corpus.embedding import Embedder

KEPT_AFTER_RERANK = 5
NEW_DOCUMENTS_A_HOP = 3
# Long enough for the schema's longest reply in ordinary words; a reply that runs on is cut and repaired.
MAX_TOKENS = {"decompose": 48, "extract_clues": 128, "decide": 56, "generate": 32}

Changes = dict[str, Any]


class DocumentStore(Protocol):
    """A vector store; `search` blocks."""

    def search(self, vector: NDArray[np.float32], k: int) -> list[Document]:
        """Return at most `k` documents, nearest first."""


@dataclass(frozen=True)
class Hop2RagNodes:
    """The nodes with what they depend on.

    Args:
        k: documents retrieved a hop.
        max_hops: hops after which the loop ends.
        layout: the order of the prompts' parts.
    """

    llm: Llm
    embedder: Embedder
    store: DocumentStore
    k: int = 10
    max_hops: int = 3
    layout: Layout = "original"

    async def initialize(self, state: Hop2RagState, _: QuestionMeter) -> Changes:
        """Start at the first hop with nothing known."""
        return {
            "question": state["question"],
            "hop": 1,
            "queries": [],
            "evidence": [],
            "clues": [],
            "missing": "",
            "termination": "",
            "log": [],
        }

    async def decompose(self, state: Hop2RagState, meter: QuestionMeter) -> Changes:
        """Write the next query from the evidence so far; DONE ends the loop from the second hop on."""
        reply, log = await self._reply("decompose", state, meter, Decomposition)
        query = reply.query.strip() if reply else ""
        if query.upper() == DONE and state["hop"] > 1:
            return {"termination": "done", "log": log}
        # Without a usable query the question itself is the best one, and the first hop always searches.
        query = query if query and query.upper() != DONE else state["question"]
        return {"query": query, "queries": [*state["queries"], query], "log": log}

    async def retrieve(self, state: Hop2RagState, meter: QuestionMeter) -> Changes:
        """Embed the query and search, both off the event loop."""
        with meter.stage("embed", state["hop"]):
            vectors = await asyncio.to_thread(self.embedder.encode, [state["query"]])
        with meter.stage("search", state["hop"]):
            documents = await asyncio.to_thread(self.store.search, vectors[0], self.k)
        return {"retrieved": documents}

    async def grade(self, state: Hop2RagState, meter: QuestionMeter) -> Changes:
        """Rerank what was retrieved by BM25 against the question and the query."""
        text = f"{state['question']} {state['query']}"
        with meter.stage("rerank", state["hop"]):
            order = await asyncio.to_thread(ranking.rank, text, [document.text for document in state["retrieved"]])
        return {"ranked": [state["retrieved"][index] for index in order[:KEPT_AFTER_RERANK]]}

    async def accumulate(self, state: Hop2RagState, _: QuestionMeter) -> Changes:
        """Take in the best documents that are new, by their text."""
        known = {document.text for document in state["evidence"]}
        fresh: list[Document] = []
        for document in state["ranked"]:
            if document.text not in known and len(fresh) < NEW_DOCUMENTS_A_HOP:
                known.add(document.text)
                fresh.append(document)
        return {"fresh": fresh, "evidence": [*state["evidence"], *fresh]}

    async def extract_clues(self, state: Hop2RagState, meter: QuestionMeter) -> Changes:
        """Copy facts from this hop's new passages."""
        reply, log = await self._reply("extract_clues", state, meter, Clues)
        new = [clue for clue in (reply.clues if reply else []) if clue not in state["clues"]]
        return {"clues": [*state["clues"], *new], "log": log}

    async def decide(self, state: Hop2RagState, meter: QuestionMeter) -> Changes:
        """Reflect: are the clues enough? Otherwise go on to the next hop, unless there is none left."""
        reply, log = await self._reply("decide", state, meter, Decision)
        if reply and reply.enough == "yes":
            return {"termination": "enough", "log": log}
        missing = reply.missing if reply else ""
        if state["hop"] >= self.max_hops:
            return {"termination": "max_hops", "missing": missing, "log": log}
        return {"missing": missing, "hop": state["hop"] + 1, "log": log}

    async def generate(self, state: Hop2RagState, meter: QuestionMeter) -> Changes:
        """Write the answer."""
        asked = messages(self.layout, "generate", state)
        text = await self.llm.complete(meter, "generate", state["hop"], asked, MAX_TOKENS["generate"])
        return {"answer": text, "log": self._log(asked, text)}

    async def extract_supporting_facts(self, state: Hop2RagState, _: QuestionMeter) -> Changes:
        """Name the sentences of the evidence that support the answer; see `ranking.supporting_facts`."""
        text = " ".join([state["question"], state["answer"], *state["clues"]])
        facts = await asyncio.to_thread(ranking.supporting_facts, text, state["evidence"])
        return {"supporting_facts": facts}

    async def finalize(self, state: Hop2RagState, _: QuestionMeter) -> Changes:
        """Keep the answer's first line."""
        lines = state["answer"].strip().splitlines()
        return {"answer": lines[0].strip() if lines else ""}

    async def _reply(
        self, node: str, state: Hop2RagState, meter: QuestionMeter, schema: type[Any]
    ) -> tuple[Any, list[Message]]:
        asked = messages(self.layout, node, state)
        reply, text = await self.llm.reply(meter, node, state["hop"], asked, MAX_TOKENS[node], schema)
        return reply, self._log(asked, text)

    def _log(self, asked: list[Message], text: str) -> list[Message]:
        return [*asked, {"role": "assistant", "content": text}] if self.layout == "append-only" else []

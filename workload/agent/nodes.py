"""The nodes of Hop2Rag: each takes the state and the question's meter and returns its changes to the state."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, cast

from workload.agent import ranking
from workload.agent.context import EVERYTHING, Context
from workload.agent.prompts import DONE, Clues, Decision, Decomposition, messages
from workload.services.own_thread import in_own_thread

if TYPE_CHECKING:
    from workload.agent.llm import Llm
    from workload.agent.metering import QuestionMeter
    from workload.agent.prefetch import Prefetch
    from workload.agent.retrieval import Retrieval
    from workload.agent.sleep import EngineSleep
    from workload.agent.state import Hop2RagState
    from workload.corpus.document import Document
    from workload.engine.message import Message
    from workload.settings import Layout

KEPT_AFTER_RERANK = 5
NEW_DOCUMENTS_PER_HOP = 3
# Enough for the schema's longest reply in ordinary words; a longer reply is cut and repaired.
MAX_TOKENS = {"decompose": 48, "extract_clues": 128, "decide": 56, "generate": 32}

Changes = dict[str, Any]


@dataclass(frozen=True)
class Hop2RagNodes:
    """The nodes and their dependencies.

    Args:
        prefetch: retrieves for drafts of the next query; None to disable it.
        sleep: puts the engine to sleep during retrieval; None to disable it.
    """

    llm: Llm
    retrieval: Retrieval
    _: KW_ONLY
    max_hops: int = 3
    layout: Layout = "original"
    context: Context = EVERYTHING
    prefetch: Prefetch | None = None
    sleep: EngineSleep | None = None

    async def initialize(self, state: Hop2RagState, meter: QuestionMeter) -> Changes:
        """Set the state of the first hop."""
        start = {
            "question": state["question"],
            "hop": 1,
            "queries": [],
            "evidence": [],
            "clues": [],
            "missing": "",
            "termination": "",
            "log": [],
        }
        return start | self._draft("initialize", state, start, meter)

    async def decompose(self, state: Hop2RagState, meter: QuestionMeter) -> Changes:
        """Write the next query from the evidence so far; from the second hop on, DONE ends the loop."""
        reply, log = await self._reply("decompose", state, meter, Decomposition)
        query = reply.query.strip() if reply else ""
        if query.upper() == DONE and state["hop"] > 1:
            return {"termination": "done", "log": log}
        # Without a usable query the question itself is the best one; the first hop always searches.
        query = query if query and query.upper() != DONE else state["question"]
        return {"query": query, "queries": [*state["queries"], query], "log": log}

    async def retrieve(self, state: Hop2RagState, meter: QuestionMeter) -> Changes:
        """Take the documents of a correct draft, else embed the query and search."""
        draft = state.get("draft")
        found = await draft.claim(state["query"], meter) if draft else None
        if found is None:
            finding = self.retrieval.find(state["query"], state["hop"], meter)
            found = await (self.sleep.during(finding, state["hop"], meter) if self.sleep else finding)
        return {"retrieved": found, "draft": None}

    async def grade(self, state: Hop2RagState, meter: QuestionMeter) -> Changes:
        """Rerank the retrieved documents by BM25 against the question and the query."""
        text = f"{state['question']} {state['query']}"
        with meter.stage("rerank", state["hop"]):
            order = await in_own_thread(ranking.rank, text, [document.text for document in state["retrieved"]])
        return {"ranked": [state["retrieved"][index] for index in order[:KEPT_AFTER_RERANK]]}

    async def accumulate(self, state: Hop2RagState, _: QuestionMeter) -> Changes:
        """Add the best documents whose text is new to the evidence."""
        known = {document.text for document in state["evidence"]}
        fresh: list[Document] = []
        for document in state["ranked"]:
            if document.text not in known and len(fresh) < NEW_DOCUMENTS_PER_HOP:
                known.add(document.text)
                fresh.append(document)
        return {"fresh": fresh, "evidence": [*state["evidence"], *fresh]}

    async def extract_clues(self, state: Hop2RagState, meter: QuestionMeter) -> Changes:
        """Copy facts from the new passages of this hop."""
        reply, log = await self._reply("extract_clues", state, meter, Clues)
        new = [clue for clue in (reply.clues if reply else []) if clue not in state["clues"]]
        changes = {"clues": [*state["clues"], *new], "log": log}
        return changes | self._draft("extract_clues", state, changes, meter)

    async def decide(self, state: Hop2RagState, meter: QuestionMeter) -> Changes:
        """Reflect: are the clues enough? Otherwise go on to the next hop, unless there is none left."""
        reply, log = await self._reply("decide", state, meter, Decision)
        if reply and reply.enough == "yes":
            return {"termination": "enough", "log": log}
        missing = reply.missing if reply else ""
        if state["hop"] >= self.max_hops:
            return {"termination": "max_hops", "missing": missing, "log": log}
        changes = {"missing": missing, "hop": state["hop"] + 1, "log": log}
        return changes | self._draft("decide", state, changes, meter)

    async def generate(self, state: Hop2RagState, meter: QuestionMeter) -> Changes:
        """Write the answer."""
        asked = messages(self.layout, "generate", self.context.limited(state))
        text = await self.llm.complete(meter, "generate", state["hop"], asked, MAX_TOKENS["generate"])
        return {"answer": text, "log": self._log(asked, text)}

    async def extract_supporting_facts(self, state: Hop2RagState, _: QuestionMeter) -> Changes:
        """Find the sentences of the evidence that support the answer; see `ranking.supporting_facts`."""
        text = " ".join([state["question"], state["answer"], *state["clues"]])
        facts = await in_own_thread(ranking.supporting_facts, text, state["evidence"])
        return {"supporting_facts": facts}

    async def finalize(self, state: Hop2RagState, _: QuestionMeter) -> Changes:
        """Keep the first line of the answer."""
        lines = state["answer"].strip().splitlines()
        return {"answer": lines[0].strip() if lines else ""}

    async def _reply(
        self, node: str, state: Hop2RagState, meter: QuestionMeter, schema: type[Any]
    ) -> tuple[Any, list[Message]]:
        asked = messages(self.layout, node, self.context.limited(state))
        reply, text = await self.llm.reply(meter, node, state["hop"], asked, MAX_TOKENS[node], schema=schema)
        return reply, self._log(asked, text)

    def _log(self, asked: list[Message], text: str) -> list[Message]:
        return [*asked, {"role": "assistant", "content": text}] if self.layout == "append-only" else []

    def _draft(self, node: str, state: Hop2RagState, changes: Changes, meter: QuestionMeter) -> Changes:
        """Return the draft that a node's changes allow, if any; an earlier draft stays."""
        if self.prefetch is None:
            return {}
        draft = self.prefetch.after(node, cast("Hop2RagState", {**state, **changes}), self.max_hops, meter)
        return {"draft": draft} if draft else {}

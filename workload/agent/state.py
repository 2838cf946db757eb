"""The state that the nodes of Hop2Rag share, and the names of the nodes."""

from __future__ import annotations

from typing import Literal, TypedDict

from workload.agent.draft import Draft  # noqa: TC001 - LangGraph reads the annotations of the state at run time
from workload.corpus.document import Document  # noqa: TC001 - LangGraph reads the state's annotations at run time
from workload.engine.message import Message  # noqa: TC001 - LangGraph reads the annotations of the state at run time

LLM_NODES = ("decompose", "extract_clues", "decide", "generate")
NODES = (
    "initialize",
    "decompose",
    "retrieve",
    "grade",
    "accumulate",
    "extract_clues",
    "decide",
    "generate",
    "extract_supporting_facts",
    "finalize",
)
Termination = Literal["", "done", "enough", "max_hops"]


class Hop2RagState(TypedDict, total=False):
    """The state of one question.

    `hop` counts from 1. `retrieved` are the documents of this hop, `ranked` the ones kept after reranking, `fresh` the
    new ones of those, and `evidence` all accumulated ones. `termination` is what ended the loop. `log` is the
    conversation so far, which the append-only layout sends again. `draft` is a retrieval in progress for a guess at the
    next query.
    """

    question: str
    hop: int
    query: str
    queries: list[str]
    retrieved: list[Document]
    ranked: list[Document]
    fresh: list[Document]
    evidence: list[Document]
    clues: list[str]
    missing: str
    termination: Termination
    answer: str
    supporting_facts: list[tuple[str, int]]
    log: list[Message]
    draft: Draft | None

"""The prompts of the LLM nodes in three layouts, which order the same sentences differently.

The layout determines how much of a prompt an earlier call has already put into the prefix cache: `original` begins with
what differs, `instructions-first` with what is constant, and `append-only` sends one growing log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from workload.settings import Layout

if TYPE_CHECKING:
    from workload.agent.state import Hop2RagState
    from workload.corpus.document import Document
    from workload.engine.message import Message

LAYOUTS: tuple[Layout, ...] = get_args(Layout)
DONE = "DONE"
# With these limits the longest reply fits the token limit of its node, so guided decoding ends with valid JSON.
MAX_QUERY_CHARS = 100
MAX_CLUE_CHARS = 110

INSTRUCTIONS = {
    "decompose": (
        "Write one short search query for the next fact that is still needed to answer the question. "
        "Name the people, works or places it is about. If the clues already hold every fact, write DONE instead. "
        'Reply with JSON like {"query": "..."}.'
    ),
    "extract_clues": (
        "From the passages, copy up to three short facts that help to answer the question, each with its full names. "
        'Leave the list empty if no passage helps. Reply with JSON like {"clues": ["..."]}.'
    ),
    "decide": (
        "Judge whether the clues are enough to answer the question with certainty. "
        'First name the fact that is still missing, if any, then say "yes" or "no". '
        'Reply with JSON like {"missing": "...", "enough": "no"}.'
    ),
    "generate": (
        "Answer the question from the clues and passages. "
        "Give only the answer itself, in as few words as possible, without a sentence around it."
    ),
}
PREAMBLE = "You answer a question in several steps. Each message names the step to do now."
REPAIR = "That was not the JSON asked for. Reply again with nothing but that JSON."


class _Reply(BaseModel):
    """A strict reply: the schema that guides decoding also validates the result."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Decomposition(_Reply):
    """Reply of `decompose`."""

    query: str = Field(min_length=1, max_length=MAX_QUERY_CHARS)


class Clues(_Reply):
    """Reply of `extract_clues`."""

    clues: list[Annotated[str, Field(min_length=1, max_length=MAX_CLUE_CHARS)]] = Field(max_length=3)


class Decision(_Reply):
    """Reply of `decide`."""

    # in this order, so that the model names the missing fact before the verdict
    missing: str = Field(max_length=MAX_QUERY_CHARS)
    enough: Literal["yes", "no"]


def messages(layout: Layout, node: str, state: Hop2RagState) -> list[Message]:
    """Return the chat messages of an LLM node in the given layout."""
    question = f"Question: {state['question']}"
    if layout == "append-only":
        new = [question] if not state["log"] else []
        if node == "extract_clues":
            new.append(_passages(state["fresh"]))
        opening: list[Message] = state["log"] or [{"role": "system", "content": _preamble()}]
        return [*opening, {"role": "user", "content": "\n\n".join([*new, f"Step: {node}"])}]
    material = [question, *_material(node, state)]
    if layout == "instructions-first":
        return [
            {"role": "system", "content": INSTRUCTIONS[node]},
            {"role": "user", "content": "\n\n".join(material)},
        ]
    return [{"role": "user", "content": "\n\n".join([*material, INSTRUCTIONS[node]])}]


def preambles(layout: Layout) -> dict[str, list[Message]]:
    """Return a prompt for each beginning that all questions share in a layout, by a node that sends it."""
    systems = {
        "original": {},
        "instructions-first": INSTRUCTIONS,
        "append-only": {"decompose": _preamble()},
    }[layout]
    empty: Message = {"role": "user", "content": ""}
    return {node: [{"role": "system", "content": text}, empty] for node, text in systems.items()}


def _preamble() -> str:
    return "\n\n".join([PREAMBLE, *(f"Step {node}: {text}" for node, text in INSTRUCTIONS.items())])


def _material(node: str, state: Hop2RagState) -> list[str]:
    """Return the parts of a node's prompt besides the question, in layouts without a log."""
    clues = "Clues:\n" + ("\n".join(f"- {clue}" for clue in state["clues"]) or "- none yet")
    if node == "decompose":
        parts = [clues]
        if state["missing"]:
            parts.append(f"Still missing: {state['missing']}")
        if state["queries"]:
            parts.append("Queries already tried: " + "; ".join(state["queries"]))
        return parts
    if node == "extract_clues":
        return [_passages(state["fresh"])]
    if node == "decide":
        return [clues]
    return [clues, _passages(state["evidence"])]


def _passages(documents: list[Document]) -> str:
    return "Passages:\n" + ("\n".join(f"[{document.title}] {document.text}" for document in documents) or "none")

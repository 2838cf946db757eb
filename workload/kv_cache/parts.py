"""The parts of a prompt: which tokens are template, instructions, question, passages or earlier replies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workload.agent.prompts import INSTRUCTIONS, PREAMBLE, REPAIR

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from workload.corpus.tokenizer import ChatTokenizer
    from workload.engine.message import Message

PARTS = ("template", "instructions", "question", "passages", "replies")
# How the paragraphs of the agent's prompts begin, see `workload.agent.prompts`.
OPENINGS = {
    "Question: ": "question",
    "Passages:\n": "passages",
    "Clues:\n": "replies",
    "Still missing: ": "replies",
    "Queries already tried: ": "replies",
    **dict.fromkeys((PREAMBLE, REPAIR, *INSTRUCTIONS.values()), "instructions"),
    **{f"Step{mark} {node}": "instructions" for node in INSTRUCTIONS for mark in (":", "")},
}
SEPARATOR = "\n\n"


def parts_of(messages: Sequence[Message], tokenizer: ChatTokenizer) -> list[str]:
    """Return the part of each token of a chat; replies are texts of earlier calls.

    A token that spans two parts counts for the one it starts in.
    """
    text = tokenizer.render(messages)
    part_at = ["template"] * len(text)
    cursor = 0
    for message in messages:
        # A template may trim a message's outer white space.
        content = message["content"].strip()
        start = text.index(content, cursor)
        for part, length in _paragraphs(message["role"], content):
            part_at[start : start + length] = [part] * length
            start += length
        cursor = start
    return [part_at[start] for start, _ in tokenizer.offsets(text)]


def _paragraphs(role: str, content: str) -> Iterator[tuple[str, int]]:
    """Yield the part and the length in characters of each paragraph, with the separator after it."""
    part = "replies" if role == "assistant" else "instructions"
    for number, paragraph in enumerate(pieces := content.split(SEPARATOR)):
        if role != "assistant":
            # A passage may have an empty line: a paragraph without a known opening continues the part before it.
            part = next((name for opening, name in OPENINGS.items() if paragraph.startswith(opening)), part)
        yield part, len(paragraph) + (len(SEPARATOR) if number + 1 < len(pieces) else 0)

"""Which part of a prompt is recomputed is the finding; a token credited to the wrong part turns it around."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from workload.agent.prompts import INSTRUCTIONS, LAYOUTS, PREAMBLE
from workload.kv_cache.parts import parts_of

if TYPE_CHECKING:
    from tests.workload.kv_cache.conftest import Simulation
    from workload.corpus.tokenizer import ChatTokenizer
    from workload.engine.message import Message


def texts_by_part(messages: list[Message], tokenizer: ChatTokenizer) -> dict[str, str]:
    """Return the text of each part, put together from its tokens."""
    ids: dict[str, list[int]] = {}
    for part, token in zip(parts_of(messages, tokenizer), tokenizer.prompt_ids(messages), strict=True):
        ids.setdefault(part, []).append(token)
    return {part: tokenizer.library.decode(tokens) for part, tokens in ids.items()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_agents_own_prompts_are_understood(simulation: Simulation, tokenizer: ChatTokenizer, layout: str) -> None:
    """Reworded prompts must not drift into another part: instructions are those of the agent and nothing else is."""
    for sent in simulation.arms[layout]:
        found = texts_by_part(list(sent.messages), tokenizer)
        steps = [line for message in sent.messages for line in message["content"].splitlines() if "Step: " in line]
        preamble = [PREAMBLE, *(f"Step {node}: {text}" for node, text in INSTRUCTIONS.items())]
        said = [*preamble, *steps] if layout == "append-only" else [INSTRUCTIONS[sent.call.node]]
        assert "".join(found["instructions"].split()) == "".join("".join(said).split())
        assert found["question"].startswith("Question: ")
        assert "Question" not in found.get("passages", "") + found.get("replies", "")
        assert found["template"].startswith("<|im_start|>")
        passages = [line for line in sent.messages[-1]["content"].splitlines() if line.startswith("[")]
        assert all(line in found["passages"] for line in passages)


def test_each_layout_repeats_other_parts(simulation: Simulation, tokenizer: ChatTokenizer) -> None:
    """Appending repeats passages and replies, so its prompts have more of each: the rate alone would hide it."""
    counts = {
        layout: [sum(part == name for sent in calls for part in parts_of(sent.messages, tokenizer)) for name in
                 ("passages", "replies")]
        for layout, calls in simulation.arms.items()
    }  # fmt: skip
    assert all(more > less for more, less in zip(counts["append-only"], counts["original"], strict=True))


def test_a_passage_with_an_empty_line_stays_a_passage(tokenizer: ChatTokenizer) -> None:
    """Stores of other programs contain such texts."""
    messages: list[Message] = [{"role": "user", "content": "Question: Who?\n\nPassages:\n[A] One.\n\nTwo."}]
    assert texts_by_part(messages, tokenizer)["passages"] == "Passages:\n[A] One.\n\nTwo."


def test_outer_white_space_that_a_template_trims_is_no_obstacle(tokenizer: ChatTokenizer) -> None:
    """Many templates trim messages; the search for their text must still find it."""
    messages: list[Message] = [{"role": "user", "content": "\nQuestion: Who? \n"}]
    assert texts_by_part(messages, tokenizer)["question"] == "Question: Who?"

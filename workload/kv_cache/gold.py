"""Which gold passages a simulation's retrieval has really found: seen in the prompts, not concluded from an answer."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from workload.kv_cache.reader import PerfectReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from workload.corpus.hotpotqa import Question
    from workload.kv_cache.source import SentCall


def gold_passages(questions: Sequence[Question], calls: Iterable[SentCall]) -> dict[str, int]:
    """Return of how many questions every gold passage was shown to `extract_clues`, counts throughout.

    `unreadable` are the questions with a gold passage of which their file has no sentence: the reader cannot note it,
    so a loop that goes by its clues may end without it. `calls` are those of one arm.
    """
    shown: dict[str, str] = defaultdict(str)
    for sent in calls:
        if sent.call.node == "extract_clues" and sent.messages:
            shown[sent.call.question] += str(sent.messages[-1]["content"])
    titles = {question.id: {title for title, _ in question.supporting_facts} for question in questions}
    readable = {question.id: {title for title, _ in PerfectReader.of(question).clues} for question in questions}
    found = {key: {title for title in gold if f"[{title}] " in shown[key]} for key, gold in titles.items()}
    return {
        "questions": len(titles),
        "found_all": sum(bool(gold) and found[key] == gold for key, gold in titles.items()),
        "found_none": sum(bool(gold) and not found[key] for key, gold in titles.items()),
        "unreadable": sum(gold != readable[key] for key, gold in titles.items()),
    }


def gold_in_words(gold: dict[str, Any]) -> list[str]:
    """Return what retrieval found of the gold passages, and what a reader of the figures must know of the rest."""
    found = f"Retrieval found every gold passage of {gold['found_all']} of {gold['questions']} questions"
    sentences = [f"{found}, and none of {gold['found_none']}; no model spoke."]
    if gold["unreadable"]:
        sentences.append(
            f"{gold['unreadable']} questions have a gold passage of which their file holds no sentence: no reply can "
            "show that it was found, so their loops may end without it, and those with no other go on to the last hop."
        )
    return sentences

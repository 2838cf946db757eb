"""Counts the gold passages that a simulation's retrieval found, by the prompts and not by the answers."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from workload.kv_cache.reader import PerfectReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from workload.corpus.hotpotqa import Question
    from workload.kv_cache.source import SentCall


def gold_passages(questions: Sequence[Question], calls: Iterable[SentCall]) -> dict[str, int]:
    """Return the number of questions for which `extract_clues` saw all gold passages, and related counts.

    `unreadable` counts questions with a gold passage of which their file has no sentence: the reader cannot note it, so
    the loop may end without it. `calls` are those of one arm.
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
    """Return sentences on the gold passages that retrieval found, and on those that cannot be seen."""
    found = f"Retrieval found all gold passages of {gold['found_all']} of {gold['questions']} questions"
    sentences = [f"{found}, and no gold passage of {gold['found_none']}; no model generated text."]
    if gold["unreadable"]:
        sentences.append(
            f"{gold['unreadable']} questions have a gold passage of which their file has no sentence: no reply can "
            "show that it was found, so their loops may end without it, and those with no other run to the last hop."
        )
    return sentences

"""Replaces the model in a simulation: a perfect reader that knows only the retrieved passages.

It copies a gold sentence once its passage is retrieved, searches for the next gold passage by title, and answers once
it has seen all of them. Gold passages found are counted in the prompts, not in the answers.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workload.agent.prompts import MAX_CLUE_CHARS, MAX_QUERY_CHARS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from workload.corpus.hotpotqa import Question
    from workload.engine.message import Message
    from workload.kv_cache.shapes import GoldCounts
    from workload.kv_cache.source import SentCall

MAX_CLUES = 3


@dataclass(frozen=True)
class PerfectReader:
    """Replies to one question. All its texts are in the prompt, except for the last answer.

    Attributes:
        question, answer: from HotpotQA.
        clues: (title, gold sentence), the first of each title before the second of any.
        unreadable: gold titles of which the question's file has no sentence.
    """

    question: str
    answer: str
    clues: tuple[tuple[str, str], ...]
    unreadable: tuple[str, ...] = ()

    @staticmethod
    def of(question: Question) -> PerfectReader:
        """Return the reader with a question's gold facts; facts that name no sentence are left out."""
        passages = {paragraph.title: paragraph.sentences for paragraph in reversed(question.context)}
        ranked, count = [], dict.fromkeys(passages, 0)
        for title, number in question.supporting_facts:
            if number < len(passages.get(title, ())) and (sentence := passages[title][number].strip()):
                ranked.append((count[title], title, clip(sentence, MAX_CLUE_CHARS)))
                count[title] += 1
        ranked.sort(key=lambda row: row[0])
        clues = tuple((title, clue) for _, title, clue in ranked)
        known = {title for title, _ in clues}
        rest = dict.fromkeys(title for title, _ in question.supporting_facts if title not in known)
        return PerfectReader(question.question, question.answer or "", clues, tuple(rest))

    def reply(self, node: str, hop: int, messages: Sequence[Message]) -> str:
        """Return the text of a node's reply to its prompt."""
        if node == "extract_clues":
            passages = messages[-1]["content"]
            return _json(clues=[clue for title, clue in self.clues if f"[{title}] " in passages][:MAX_CLUES])
        missing = self._missing("\n".join(message["content"] for message in messages))
        if node == "decompose":
            return _json(query=clip(missing[0] if missing and hop > 1 else self.question, MAX_QUERY_CHARS))
        if node == "decide":
            wanted = clip(f"a fact about {missing[0]}", MAX_QUERY_CHARS) if missing else ""
            return _json(missing=wanted, enough="no" if missing else "yes")
        return "unknown" if missing else self.answer

    def _missing(self, prompt: str) -> list[str]:
        """Return the gold titles without a noted clue, as a line or as an earlier reply.

        For a question without any clue these are all titles: it cannot be solved, and its loop continues.
        """
        if not self.clues:
            return list(self.unreadable)
        noted = {title for title, clue in self.clues if f"- {clue}" in prompt or _quoted(clue) in prompt}
        return [title for title in dict.fromkeys(title for title, _ in self.clues) if title not in noted]


def clip(text: str, chars: int) -> str:
    """Return the words of `text` that fit in `chars` characters; a first word that is too long is cut."""
    return text if len(text) <= chars else text[:chars].rsplit(" ", 1)[0]


def _json(**reply: object) -> str:
    return json.dumps(reply, ensure_ascii=False)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def gold_passages(questions: Sequence[Question], calls: Iterable[SentCall]) -> GoldCounts:
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


def gold_in_words(gold: GoldCounts) -> list[str]:
    """Return sentences on the gold passages that retrieval found, and on those that cannot be seen."""
    found = f"Retrieval found all gold passages of {gold['found_all']} of {gold['questions']} questions"
    sentences = [f"{found}, and no gold passage of {gold['found_none']}; no model generated text."]
    if gold["unreadable"]:
        sentences.append(
            f"{gold['unreadable']} questions have a gold passage of which their file has no sentence: no reply can "
            "show that it was found, so their loops may end without it; without any sentence they run to the last hop."
        )
    return sentences

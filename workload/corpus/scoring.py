"""HotpotQA's metrics: answer, supporting facts, and both jointly.

Source of every formula: Yang et al., "HotpotQA: A Dataset for Diverse, Explainable Multi-hop Question Answering",
EMNLP 2018, section 5.2, with the answer normalisation of SQuAD (Rajpurkar et al., EMNLP 2016).
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection

    Fact = tuple[str, int]

ARTICLE = re.compile(r"\b(a|an|the)\b")
DROP_PUNCTUATION = str.maketrans("", "", string.punctuation)
UNKNOWN = (None, None, None, None)
CLOSED_ANSWERS = frozenset({"yes", "no", "noanswer"})


class Agreement(NamedTuple):
    """Agreement of a prediction with the gold: exact match (0 or 1), F1, precision, recall, each 0 to 1."""

    em: float
    f1: float
    precision: float
    recall: float


@dataclass(frozen=True)
class Score:
    """One question's score, or the mean of many; each field is 0 to 1, or None without gold."""

    answer_em: float | None
    answer_f1: float | None
    answer_precision: float | None
    answer_recall: float | None
    facts_em: float | None
    facts_f1: float | None
    facts_precision: float | None
    facts_recall: float | None
    joint_em: float | None
    joint_f1: float | None


def one_form(text: str) -> str:
    """Return a text in Unicode's composed form (NFC): files may encode é as one character or as two."""
    return unicodedata.normalize("NFC", text)


def normalize_answer(text: str) -> str:
    """Compose characters, lower the case, then drop ASCII punctuation, the articles a, an, the, and extra spaces."""
    return " ".join(ARTICLE.sub(" ", one_form(text).lower().translate(DROP_PUNCTUATION)).split())


def score_answer(answer: str, gold: str) -> Agreement:
    """Compare the normalised tokens of two answers as multisets.

    If either answer is "yes", "no" or "noanswer", only an exact match counts: "no" shares a token with "no idea", which
    must not count.
    """
    answer, gold = normalize_answer(answer), normalize_answer(gold)
    exact = answer == gold
    if not exact and not CLOSED_ANSWERS.isdisjoint((answer, gold)):
        return Agreement(0.0, 0.0, 0.0, 0.0)
    answer_tokens, gold_tokens = Counter(answer.split()), Counter(gold.split())
    shared = (answer_tokens & gold_tokens).total()
    return _agreement(shared, answer_tokens.total(), gold_tokens.total(), exact=exact)


def score_facts(facts: Collection[Fact], gold: Collection[Fact]) -> Agreement:
    """Compare two sets of supporting facts, each a (title, sentence number); repeats count once."""
    found, wanted = ({(one_form(title), number) for title, number in each} for each in (facts, gold))
    return _agreement(len(found & wanted), len(found), len(wanted), exact=found == wanted)


def score(answer: str, answers: Collection[str], facts: Collection[Fact], gold_facts: Collection[Fact]) -> Score:
    """Score one question; the joint precision and recall are the products of the answer's and the facts'.

    The best agreement with any of the gold answers counts, as in MuSiQue's evaluation (Trivedi et al., TACL 2022).
    Without a gold answer, or without gold facts, the fields that need them are None.
    """
    of_answer = max((score_answer(answer, gold) for gold in answers), default=None)
    of_facts = score_facts(facts, gold_facts) if gold_facts else None
    joint_em = joint_f1 = None
    if of_answer and of_facts:
        joint_em = of_answer.em * of_facts.em
        joint_f1 = _harmonic(of_answer.precision * of_facts.precision, of_answer.recall * of_facts.recall)
    values: tuple[float | None, ...] = (*(of_answer or UNKNOWN), *(of_facts or UNKNOWN), joint_em, joint_f1)
    return Score(*values)


def _agreement(shared: int, found: int, wanted: int, *, exact: bool) -> Agreement:
    precision = shared / found if found else 0.0
    recall = shared / wanted if wanted else 0.0
    return Agreement(float(exact), _harmonic(precision, recall), precision, recall)


def _harmonic(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

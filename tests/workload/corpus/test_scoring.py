"""The metrics must be HotpotQA's own, or results cannot be compared with published ones."""

from __future__ import annotations

import unicodedata
from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workload.corpus.scoring import normalize_answer, score, score_answer, score_facts

WORDS = st.lists(
    st.sampled_from(["the", "a", "yes", "no", "noanswer", "Oran", "oran!", "river", "1874", ""]), max_size=6
)
ANSWERS = st.one_of(WORDS.map(" ".join), st.text(max_size=30))
FACTS = st.lists(st.tuples(st.sampled_from(["Oran", "Vell", "Kesh"]), st.integers(0, 3)), max_size=6)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The Harbour of Oran.", "harbour of oran"),
        ("an  apple,a pear", "applea pear"),
        ("theatre", "theatre"),
        ("U.S.", "us"),
        ("a the an", ""),
        ("\N{EN DASH} Ä", "\N{EN DASH} ä"),
    ],
)
def test_normalisation_follows_squad(text: str, normal: str) -> None:
    """Punctuation goes before articles and is not replaced by a space: any other order gives other tokens."""
    assert normalize_answer(text) == normal


@pytest.mark.parametrize(
    ("answer", "gold", "agreement"),
    [
        ("the Oran river", "Oran River", (1.0, 1.0, 1.0, 1.0)),
        ("Oran", "Oran river", (0.0, 2 / 3, 1.0, 0.5)),
        ("blue Oran river delta", "Oran river", (0.0, 2 / 3, 0.5, 1.0)),
        ("Oran Oran", "Oran Vell", (0.0, 0.5, 0.5, 0.5)),
        ("Vell", "Oran", (0.0, 0.0, 0.0, 0.0)),
        ("yes", "Yes.", (1.0, 1.0, 1.0, 1.0)),
        ("no", "no idea", (0.0, 0.0, 0.0, 0.0)),
        ("yes it is", "yes", (0.0, 0.0, 0.0, 0.0)),
        ("noanswer", "Oran", (0.0, 0.0, 0.0, 0.0)),
        ("", "Oran", (0.0, 0.0, 0.0, 0.0)),
    ],
)
def test_answers_worked_by_hand(answer: str, gold: str, agreement: tuple[float, float, float, float]) -> None:
    """Partial credit and the yes/no rule are where a home-made F1 usually differs from the published one."""
    assert score_answer(answer, gold) == pytest.approx(agreement)


def test_facts_worked_by_hand() -> None:
    """Two of three found facts are right and one of three is missed: the counts behind precision and recall."""
    found = [("Oran", 0), ("Vell", 1), ("Kesh", 2), ("Oran", 0)]
    gold = [("Oran", 0), ("Vell", 1), ("Vell", 2), ("Vell", 3)]
    assert score_facts(found, gold) == pytest.approx((0.0, 4 / 7, 2 / 3, 0.5))


def test_the_joint_score_multiplies_precision_and_recall_not_f1() -> None:
    """The product of two F1 values is the usual mistake: here it would be 2/3 * 2/3 instead of 2 * 0.5 * 0.5 / 1."""
    result = score("Oran", ["Oran river"], [("Oran", 0), ("Vell", 1)], [("Oran", 0)])
    assert (result.answer_f1, result.facts_f1) == pytest.approx((2 / 3, 2 / 3))
    assert result.joint_f1 == pytest.approx(0.5)
    assert result.joint_em == 0.0


@given(ANSWERS, ANSWERS, FACTS, FACTS.filter(bool))
def test_every_figure_is_a_fraction(
    answer: str, gold: str, facts: list[tuple[str, int]], gold_facts: list[tuple[str, int]]
) -> None:
    """A figure outside 0 to 1 would pass unseen into a mean over thousands of questions."""
    result = score(answer, [gold], facts, gold_facts)
    assert all(0.0 <= value <= 1.0 for value in astuple(result))
    assert result.joint_f1 <= min(1.0, result.answer_recall + result.answer_precision)
    assert result.joint_em <= min(result.answer_em, result.facts_em)


@given(ANSWERS, ANSWERS, FACTS, FACTS)
def test_swapping_prediction_and_gold_swaps_precision_and_recall(
    answer: str, gold: str, facts: list[tuple[str, int]], gold_facts: list[tuple[str, int]]
) -> None:
    """The metrics are symmetric in that sense; a mixed-up argument order shows as a broken symmetry."""
    for forth, back in (
        (score_answer(answer, gold), score_answer(gold, answer)),
        (score_facts(facts, gold_facts), score_facts(gold_facts, facts)),
    ):
        assert (forth.em, forth.precision, forth.recall) == (back.em, back.recall, back.precision)
        assert forth.f1 == pytest.approx(back.f1)


@given(ANSWERS, FACTS.filter(bool))
def test_the_gold_itself_scores_full_marks(answer: str, facts: list[tuple[str, int]]) -> None:
    """Full marks must be reachable; an answer of nothing but articles has no tokens and earns only the exact match."""
    result = score(answer, [answer], facts, facts)
    assert result.answer_em == result.facts_em == result.joint_em == result.facts_f1 == 1.0
    assert result.joint_f1 == result.answer_f1 == float(bool(normalize_answer(answer)))


def test_the_best_of_several_answers_counts() -> None:
    """A right answer under its other name is right; the worst, or the mean, would call it half wrong."""
    assert score("Port Orm", ["Orm", "Port Orm"], [], []).answer_em == 1.0
    assert score("Orm", ["Port Orm", "Orm"], [], []).answer_f1 == 1.0
    assert score("Port Orm City", ["Orm", "Port Orm"], [], []).answer_f1 == pytest.approx(0.8)


def test_what_has_no_gold_is_not_scored() -> None:
    """A blind test set's questions are neither right nor wrong."""
    blind = score("Orm", [], [("Orm", 0)], [])
    assert set(astuple(blind)) == {None}
    half = score("Orm", ["Orm"], [("Orm", 0)], [])
    assert (half.answer_em, half.facts_em, half.joint_f1) == (1.0, None, None)


def test_unicode_forms_are_no_difference() -> None:
    """An accent in one character or in two is the same word; bytes that differ scored it 0."""
    composed, decomposed = "Café Vell", unicodedata.normalize("NFD", "Café Vell")
    assert score(decomposed, [composed], [(composed, 1)], [(decomposed, 1)]).joint_f1 == 1.0

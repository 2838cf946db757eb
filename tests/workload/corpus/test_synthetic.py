"""The generated corpus stands in for HotpotQA: if its questions are false or easy, every result on it is."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workload.corpus.hotpotqa import Question, dump, unique_paragraphs
from workload.corpus.layouts import load
from workload.corpus.synthetic import build_world, generate, generator
from workload.corpus.synthetic.bridge import ASKED, BRIDGES
from workload.corpus.synthetic.comparison import ORDERED, SAME
from workload.corpus.synthetic.world import MAX_PASSAGES, MIN_PASSAGES, World
from workload.errors import UsageError

GOLDEN = Path(__file__).parents[2] / "fixtures/hotpotqa/synthetic_2_of_60_seed_7.json"
SEEDS = st.integers(-(2**40), 2**40)
few = settings(max_examples=15, deadline=None)


@cache
def _corpus(seed: int) -> tuple[World, tuple[Question, ...]]:
    return build_world(300, seed), generate(80, 300, seed)


def _says(text: str, phrase: str) -> bool:
    return re.search(rf"\b{re.escape(phrase)}\b", text) is not None


def _gold(question: Question) -> list[str]:
    return [title for title, _ in question.supporting_facts]


@few
@given(SEEDS, st.integers(MIN_PASSAGES, 200))
def test_the_same_seed_gives_the_same_bytes(tmp_path_factory: pytest.TempPathFactory, seed: int, passages: int) -> None:
    """A seed quoted in a result is a promise that others get the same corpus."""
    folder = tmp_path_factory.mktemp("bytes")
    for name in ("one", "two"):
        dump(generate(20, passages, seed), folder / name)
    assert (folder / "one").read_bytes() == (folder / "two").read_bytes()
    assert load(folder / "one") == generate(20, passages, seed)


def test_other_processes_and_python_versions_give_the_golden_bytes(tmp_path: Path) -> None:
    """Hash order differs per process and `random.choice` may differ per Python; neither may reach the corpus.

    The file is rewritten when it differs, and then fails: a changed generator is another corpus under an old name.
    """
    code = (
        "import sys, pathlib; from workload.corpus.synthetic import generate;"
        "from workload.corpus.hotpotqa import dump;"
        "dump(generate(2, 60, 7), pathlib.Path(sys.argv[1]))"
    )
    for hash_seed in ("1", "2"):
        path = tmp_path / hash_seed
        subprocess.run([sys.executable, "-c", code, path], env={"PYTHONHASHSEED": hash_seed}, check=True, timeout=60)
        made = path.read_bytes()
        if not GOLDEN.exists() or made != GOLDEN.read_bytes():
            GOLDEN.write_bytes(made)
            pytest.fail(f"{GOLDEN} was rewritten; look at the difference, commit it, run again.")


def test_another_seed_gives_another_world() -> None:
    """A seed that is ignored would pass every test of repetition."""
    one, two = _corpus(1)[0], _corpus(2)[0]
    assert len(set(one.passages) & set(two.passages)) < len(one.passages) // 50


@few
@given(SEEDS)
def test_every_question_has_two_gold_and_eight_other_passages(seed: int) -> None:
    """It is HotpotQA's distractor setting; supporting facts that point nowhere would cap the facts' score below 1."""
    world, questions = _corpus(seed)
    assert len({question.id for question in questions}) == len({question.question for question in questions}) == 80
    for question in questions:
        shown = {paragraph.title: paragraph for paragraph in question.context}
        assert len(shown) == len(question.context) == 10
        assert len(set(_gold(question))) == 2
        assert all(0 <= number < len(shown[title].sentences) for title, number in question.supporting_facts)
        assert all(world.passages[title].paragraph == paragraph for title, paragraph in shown.items())


@few
@given(SEEDS)
def test_bridge_answers_need_both_passages(seed: int) -> None:
    """One search must not do: whatever names the subject hides the answer, and the question hides the bridge."""
    world, questions = _corpus(seed)
    for question in (question for question in questions if question.type == "bridge"):
        subject, bridge = _gold(question)
        first, second = (world.passages[title].paragraph for title in (subject, bridge))
        number_of_bridge, number_of_answer = (number for _, number in question.supporting_facts)
        assert _says(question.question, subject)
        assert not _says(question.question, bridge)
        assert not _says(question.question, question.answer)
        assert _says(first.sentences[number_of_bridge], bridge)
        assert _says(second.sentences[number_of_answer], question.answer)
        for paragraph in world.paragraphs:
            if _says(paragraph.text, subject):
                assert not _says(paragraph.text, question.answer)


@few
@given(SEEDS)
def test_comparisons_are_true_in_the_world(seed: int) -> None:
    """The truth is worked out again here, from the wording and the facts, by other code than the generator's."""
    world, questions = _corpus(seed)
    for question in (question for question in questions if question.type == "comparison"):
        pair = [world.entities[title] for title in _gold(question)]
        fact = _fact_asked(question.question, pair[0].type)
        values = [entity.facts[fact] for entity in pair]
        assert values[0] != values[1] or question.answer == "yes"
        if (pair[0].type, fact) in SAME:
            assert question.answer == ("yes" if values[0] == values[1] else "no")
        else:
            extreme = max(values) if fact == "population" else min(values)
            assert question.answer == pair[values.index(extreme)].name
        for (title, number), value in zip(question.supporting_facts, values, strict=True):
            stated = f"{value:,}" if fact == "population" else str(value)
            assert _says(world.passages[title].paragraph.sentences[number], stated)


def _fact_asked(text: str, kind: str) -> str:
    clues = {
        "born first|older": "born",
        "inhabitants|larger": "population",
        "charter": "chartered",
        "founded": "founded",
        "appeared|earlier work": "year",
        "profession": "profession",
        "born in": "birthplace",
        "prize": "prize",
        "region": "region",
        "river": "river",
        "kind of": "kind",
        "based": "seat",
        "set in": "setting",
    }
    found = {fact for clue, fact in clues.items() if re.search(clue, text)}
    assert len(found) == 1, (text, kind, found)
    return found.pop()


@few
@given(SEEDS, st.integers(MIN_PASSAGES, 400))
def test_passages_are_as_many_as_asked_with_titles_of_their_own(seed: int, passages: int) -> None:
    """A supporting fact names its passage by title alone, and no title may be a part of another's."""
    world = build_world(passages, seed)
    titles = [paragraph.title for paragraph in world.paragraphs]
    assert len(titles) == len(set(titles)) == passages
    joined = "|".join(titles)
    assert all(len(re.findall(rf"\b{re.escape(title)}\b", joined)) == 1 for title in titles)
    assert all(3 <= len(paragraph.sentences) <= 6 for paragraph in world.paragraphs)
    assert all(40 <= len(paragraph.text.split()) <= 130 for paragraph in world.paragraphs)
    assert not any(re.search(r"[{}]| {2}", paragraph.text) for paragraph in world.paragraphs)


def test_every_wording_is_used() -> None:
    """A template that never fires would narrow the corpus without any other test noticing."""
    texts = [question.question for question in generate(3000, 2000, 3)]
    for (kind, _), wordings in {**SAME, **{key: value for key, (_, value) in ORDERED.items()}}.items():
        for wording in wordings:
            pattern = re.escape(wording).replace(r"\{a\}", ".+").replace(r"\{b\}", ".+")
            assert any(re.fullmatch(pattern, text) for text in texts), (kind, wording)
    for wordings in ASKED.values():
        for wording in wordings:
            pattern = re.escape(wording).replace(r"\{bridge\}", ".+")
            assert any(re.fullmatch(pattern, text) for text in texts), wording


def test_every_bridge_leads_to_something_to_ask() -> None:
    """A bridge to a type without questions would raise on some seed of some user."""
    led_to = {
        "creator": "person",
        "publisher": "organisation",
        "setting": "place",
        "birthplace": "place",
        "employer": "organisation",
        "seat": "place",
        "founder": "person",
    }
    assert {led_to[relation] for _, relation in BRIDGES} <= {kind for kind, _ in ASKED}


def test_the_contexts_show_nearly_the_whole_world() -> None:
    """The indexed corpus is the union of the contexts: its size should be the size that was asked for."""
    assert len(unique_paragraphs(generate(100, 600, 11))) > 590


def test_distractors_share_a_name_or_a_type() -> None:
    """A distractor about something else entirely is no distraction."""
    world, questions = _corpus(5)
    for question in questions:
        gold = _gold(question)
        types = {world.entities[title].type for title in gold}
        words = {word for title in gold for word in title.split()}
        for paragraph in question.context:
            assert world.entities[paragraph.title].type in types or words & set(paragraph.title.split())


@pytest.mark.parametrize("passages", [-1, 0, MIN_PASSAGES - 1, MAX_PASSAGES + 1, 10**9])
def test_a_world_of_a_silly_size_is_refused_with_the_range(passages: int) -> None:
    """A size of 1e9 must end in a line with the allowed range, not in hours of work."""
    with pytest.raises(UsageError, match=f"{MIN_PASSAGES} to {MAX_PASSAGES}"):
        generate(1, passages, 0)


@pytest.mark.parametrize("questions", [-5, 0, 10**9])
def test_a_silly_number_of_questions_is_refused(questions: int) -> None:
    """An empty file would be refused later, by the loader, in words that point nowhere near the cause."""
    with pytest.raises(UsageError, match="Ask for 1 to"):
        generate(questions, 60, 0)


def test_more_questions_than_a_small_world_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeated questions would be cached answers; the generator stops and says how many it found."""
    monkeypatch.setattr(generator, "FRUITLESS_TRIES", 100)
    with pytest.raises(UsageError, match=r"60 passages gave only \d+ of 50000"):
        generate(50_000, 60, 0)

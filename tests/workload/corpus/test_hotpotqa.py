"""The loader is the door for files of other people: what it lets in is asked, scored and published."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stubs.questions import plain_questions
from workload.corpus.hotpotqa import Paragraph, Question, draw, dump, unique_paragraphs
from workload.corpus.index import build
from workload.corpus.layouts import load
from workload.corpus.store import Store, check
from workload.errors import StorageError, UsageError

if TYPE_CHECKING:
    from conftest import WordEmbedder

ROOT = Path(__file__).parents[3]
TINY = ROOT / "tests/fixtures/hotpotqa/tiny.json"
SAMPLE = ROOT.parent / "shared/data/hotpotqa_sample.json"

needs_sample = pytest.mark.skipif(not SAMPLE.exists(), reason="the sample of HotpotQA is not beside this checkout")


def _entries() -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(TINY.read_text(encoding="utf-8"))
    return entries


def _write(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_every_field_arrives() -> None:
    """Titles, sentence numbers and the order of the context are what the supporting-fact score rests on."""
    bridge, comparison = load(TINY)
    assert (bridge.id, bridge.answer, bridge.type, bridge.level) == ("tiny-bridge", "Velth", "bridge", "easy")
    assert bridge.supporting_facts == (("Ilva Tormend", 1), ("Oran Hythe", 0))
    assert [paragraph.title for paragraph in bridge.context] == ["Oran Hythe", "Ilva Tormend", "Kesh Moor"]
    assert comparison.context[0].text == "Jorek Tormend was born in 1851. “Æ” was a pen name."


@needs_sample
def test_the_published_format_loads_and_round_trips(tmp_path: Path) -> None:
    """A fixture of our own could share a misunderstanding with the loader; the real file cannot."""
    questions = load(SAMPLE)
    assert {question.type for question in questions} == {"bridge", "comparison"}
    for question in questions:
        titles = {paragraph.title: paragraph.sentences for paragraph in question.context}
        assert all(number < len(titles[title]) for title, number in question.supporting_facts)
    dump(questions, tmp_path / "again.json")
    assert load(tmp_path / "again.json") == questions
    assert json.loads((tmp_path / "again.json").read_text()) == json.loads(SAMPLE.read_text())


@needs_sample
def test_the_published_questions_are_indexed_and_found(tmp_path: Path, embedder: WordEmbedder) -> None:
    """Real titles and sentences contain what invented ones do not; gold passages must come back as published."""
    questions = load(SAMPLE)
    paragraphs = unique_paragraphs(questions)
    assert build(paragraphs, tmp_path / "store", "sample", embedder).count == len({one.id for one in paragraphs})
    store = Store(check(tmp_path / "store", "sample", embedder))
    for question in questions:
        gold = {title for title, _ in question.supporting_facts}
        for paragraph in (one for one in question.context if one.title in gold):
            [vector] = embedder.encode([f"{paragraph.title}. {paragraph.text}"])
            assert (paragraph.title, paragraph.sentences) in [(d.title, d.sentences) for d in store.search(vector, 3)]
    store.close()


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("_id", None, "_id"),
        ("_id", "tiny-bridge", "_id"),
        ("question", "", "question"),
        ("answer", 7, "answer"),
        ("answer", "\ud800", "answer"),
        ("type", ["bridge"], "type"),
        ("level", "  ", "level"),
        ("supporting_facts", [], "supporting_facts"),
        ("supporting_facts", [["Ilva Tormend"]], "supporting_facts[0]"),
        ("supporting_facts", [["Ilva Tormend", 0], ["Kesh Moor", "1"]], "supporting_facts[1]"),
        ("supporting_facts", [["Ilva Tormend", True]], "supporting_facts[0]"),
        ("supporting_facts", [["Ilva Tormend", -1]], "supporting_facts"),
        ("context", {}, "context"),
        ("context", [["Kesh Moor", "One sentence."]], "context[0]"),
        ("context", [["Kesh Moor", ["One."]], [3, ["Two."]]], "context[1]"),
        ("context", [["Kesh Moor", ["One.", None]]], "context[0]"),
        ("context", [["Kesh Moor", ["\udfff"]]], "context[0]"),
    ],
)
def test_a_malformed_field_is_named_with_its_entry(field: str, value: object, named: str, tmp_path: Path) -> None:
    """In a file of 90,000 entries "expected str" does not help: the refusal names the entry and the field."""
    entries = _entries()
    entries[1][field] = value
    with pytest.raises(UsageError) as caught:
        load(_write(tmp_path / "bad.json", entries))
    assert f"entry 1, field {named}: expected" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["_id", "question", "context"])
def test_a_missing_field_is_refused(field: str, tmp_path: Path) -> None:
    """Without it a question cannot be asked, searched or identified; a blind test set may lack the other fields."""
    entries = _entries()
    del entries[0][field]
    with pytest.raises(UsageError, match=f"entry 0, field {field}"):
        load(_write(tmp_path / "bad.json", entries))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "JSONDecodeError"),
        (b"[{", "JSONDecodeError"),
        (b"\xff\xfe[]", "UnicodeDecodeError|JSONDecodeError|empty"),
        (b"[" * 100_000, "RecursionError"),
        (b"[]", "an empty list"),
        (b"{}", "dict"),
        (b"NaN", "float"),
        (b"[7]", "entry 0"),
    ],
)
def test_what_is_no_question_file_is_refused_in_one_line(content: bytes, reason: str, tmp_path: Path) -> None:
    """A wrong path in a flag is the likeliest mistake; it ends in one line, never in a traceback."""
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=reason):
        load(path)


@pytest.mark.parametrize("name", ["absent.json", ".", "nul\0.json", "x" * 300])
def test_a_path_that_cannot_be_read_is_refused(name: str, tmp_path: Path) -> None:
    """Odd names reach the operating system as odd exceptions; all of them are the same usage error."""
    with pytest.raises(UsageError, match="cannot be read"):
        load(tmp_path / name)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)
PARAGRAPHS = st.builds(Paragraph, TEXT, st.lists(TEXT, max_size=3).map(tuple))
FACTS = st.lists(st.tuples(TEXT, st.integers(0, 9)), min_size=1, max_size=3).map(tuple)
QUESTIONS = st.builds(
    Question,
    **dict.fromkeys(("id", "question", "answer", "type", "level"), TEXT),
    supporting_facts=FACTS,
    context=st.lists(PARAGRAPHS, min_size=1, max_size=3).map(tuple),
    aliases=st.just(()),
)


@given(st.lists(QUESTIONS, min_size=1, max_size=3, unique_by=lambda question: question.id))
def test_what_is_dumped_loads_as_it_was(tmp_path_factory: pytest.TempPathFactory, questions: list[Question]) -> None:
    """Line separators, quotes and control characters in a passage must survive the file."""
    path = tmp_path_factory.mktemp("dump") / "questions.json"
    dump(questions, path)
    assert load(path) == tuple(questions)


def test_a_full_disk_leaves_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A corpus half written over a good one would lose both."""

    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "questions.json"
    dump(load(TINY), path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError, match="No space left"):
        dump(load(TINY)[:1], path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["questions.json", "questions.json.part", ".questions.json", "questions.json.draft"])
def test_a_dump_follows_no_link(name: str, tmp_path: Path) -> None:
    """In /tmp anybody can lay a link under a name that can be guessed, and so have a file of the user's overwritten."""
    (tmp_path / "own").write_text("precious")
    (tmp_path / name).symlink_to(tmp_path / "own")
    dump(load(TINY), tmp_path / "questions.json")
    assert load(tmp_path / "questions.json") == load(TINY)
    assert (tmp_path / "own").read_text() == "precious"


@pytest.mark.parametrize("place", ["absent/questions.json", "file/questions.json"])
def test_a_dump_into_no_folder_is_a_storage_error(place: str, tmp_path: Path) -> None:
    """The path comes from a flag; a typing mistake in it ends in one line."""
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        dump(load(TINY), tmp_path / place)


def test_a_paragraph_of_two_questions_counts_once() -> None:
    """Indexed twice, it would take two of the k places of a search."""
    questions = load(TINY)
    titles = [paragraph.title for paragraph in unique_paragraphs(questions)]
    assert titles == ["Oran Hythe", "Ilva Tormend", "Kesh Moor", "Jorek Tormend"]


def test_the_id_depends_on_all_of_the_content() -> None:
    """Same title, other sentences, or the same words cut elsewhere: each is another paragraph."""
    variants = [Paragraph("T", ("a b",)), Paragraph("T", ("a", "b")), Paragraph("T a", ("b",)), Paragraph("T", ())]
    assert len({paragraph.id for paragraph in variants}) == len(variants)


@given(st.integers(1, 30), st.integers())
def test_a_draw_repeats_itself_and_takes_nothing_twice(count: int, seed: int) -> None:
    """Arms are compared on the same questions: a draw that differs would compare questions, not arms."""
    pool = plain_questions(30)
    drawn = draw(pool, count, seed)
    assert drawn == draw(pool, count, seed)
    assert len({question.id for question in drawn}) == count


def test_other_seeds_draw_other_questions() -> None:
    """A seed that is ignored would pass every other test of the draw."""
    pool = plain_questions(30)
    firsts = [draw(pool, 1, seed)[0].id for seed in range(200)]
    assert set(firsts) == {question.id for question in pool}


@pytest.mark.parametrize("count", [-1, 0, 3])
def test_a_draw_of_more_than_there_is_names_both_numbers(count: int) -> None:
    """Silently drawing fewer would shrink the sample behind a published mean."""
    with pytest.raises(UsageError, match=rf"draw {count} questions.*has 2"):
        draw(load(TINY), count, 1)

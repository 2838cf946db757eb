"""Question files as people have them: each published layout loads by its shape, each damaged one ends in one line."""

from __future__ import annotations

import gzip
import json
import unicodedata
from typing import TYPE_CHECKING, Any

import pytest

from workload.corpus import question_file
from workload.corpus.hotpotqa import dump
from workload.corpus.layouts import load, mapped_types
from workload.errors import UsageError
from workload.kv_cache.reader import PerfectReader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONTEXT = [["Café Vell", ["Café Vell is a tavern.", " It stands in Orm."]], ["Orm", ["Orm is a port."]]]
HOTPOT: dict[str, Any] = {
    "_id": "h1",
    "question": "Where is Café Vell?",
    "answer": "Orm",
    "type": "bridge",
    "level": "hard",
    "supporting_facts": [["Café Vell", 1], ["Orm", 0]],
    "context": CONTEXT,
}
TWO_WIKI = {
    **{name: value for name, value in HOTPOT.items() if name != "level"},
    "_id": "w1",
    "type": "compositional",
    "evidences": [["Café Vell", "place", "Orm"]],
}
COLUMNS = {
    **{name: value for name, value in HOTPOT.items() if name != "_id"},
    "id": "f1",
    "context": {"title": [title for title, _ in CONTEXT], "sentences": [sentences for _, sentences in CONTEXT]},
    "supporting_facts": {"title": ["Café Vell", "Orm"], "sent_id": [1, 0]},
}
MUSIQUE: dict[str, Any] = {
    "id": "2hop__12_34",
    "question": "Where is Café Vell?",
    "answer": "Orm",
    "answer_aliases": ["Port Orm", "Orm"],
    "answerable": True,
    "question_decomposition": [],
    "paragraphs": [
        {"idx": 0, "title": "Café Vell", "paragraph_text": "It stands in Orm.", "is_supporting": True},
        {"idx": 1, "title": "Orm", "paragraph_text": "Orm is a port.", "is_supporting": False},
    ],
}
PARAGRAPH = MUSIQUE["paragraphs"][0]
BLIND = {name: HOTPOT[name] for name in ("_id", "question", "context")}


def save(path: Path, content: bytes | str) -> Path:
    """Write a file."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


TEXTS = {**TWO_WIKI, "context": json.dumps(CONTEXT), "supporting_facts": json.dumps(HOTPOT["supporting_facts"])}


@pytest.mark.parametrize(
    "entry", [HOTPOT, TWO_WIKI, COLUMNS, TEXTS], ids=["hotpotqa", "2wiki", "huggingface", "nested texts"]
)
def test_hotpotqas_kin_say_the_same(entry: dict[str, Any], tmp_path: Path) -> None:
    """The same question in three layouts must be the same question: passages, facts, answer."""
    (question,) = load(save(tmp_path / "q", json.dumps([entry])))
    assert (question.answer, question.supporting_facts) == ("Orm", (("Café Vell", 1), ("Orm", 0)))
    assert [(paragraph.title, list(paragraph.sentences)) for paragraph in question.context] == [
        (title, sentences) for title, sentences in CONTEXT
    ]
    assert question.type == entry["type"]


def test_musiques_paragraphs_are_its_facts(tmp_path: Path) -> None:
    """MuSiQue names supporting paragraphs, not sentences; a fact of each is what its evaluation scores."""
    (question,) = load(save(tmp_path / "q", json.dumps(MUSIQUE)))
    assert question.answers == ("Orm", "Port Orm")
    assert question.supporting_facts == (("Café Vell", 0),)
    assert [paragraph.text for paragraph in question.context] == ["It stands in Orm.", "Orm is a port."]
    assert question.type == "2hop"


def test_a_supporting_paragraph_stands_before_its_namesake(tmp_path: Path) -> None:
    """MuSiQue has paragraphs of one title: the fact must lead to the one that supports, not to the last of the name."""
    first, second = MUSIQUE["paragraphs"]
    namesake = {**second, "title": first["title"], "paragraph_text": "Another of the name."}
    (question,) = load(save(tmp_path / "q", json.dumps([{**MUSIQUE, "paragraphs": [namesake, first]}])))
    assert PerfectReader.of(question).clues == (("Café Vell", "It stands in Orm."),)


def test_both_halves_of_an_unanswerable_pair_load(tmp_path: Path) -> None:
    """MuSiQue-Full gives both the same id, and the unanswerable one an answer that is not in its passages."""
    other = {**MUSIQUE, "answerable": False}
    first, second = load(save(tmp_path / "q", f"{json.dumps(MUSIQUE)}\n{json.dumps(other)}\n"))
    assert first.id != second.id
    assert (second.answer, second.answers, second.supporting_facts) == (None, (), ())


@pytest.mark.parametrize(
    "entry",
    [
        BLIND,
        {**BLIND, "answer": None, "type": None, "level": None, "supporting_facts": {"title": [], "sent_id": []}},
        {**BLIND, "answer": "", "supporting_facts": []},
        {key: value for key, value in MUSIQUE.items() if key not in {"answer", "answer_aliases"}},
    ],
    ids=["hotpotqa", "huggingface", "empty", "musique"],
)
def test_row_27_a_blind_test_set_loads_without_gold(entry: dict[str, Any], tmp_path: Path) -> None:
    """Systems work needs questions, not their answers; what has no gold is not scored, and never scored as wrong."""
    (question,) = load(save(tmp_path / "q", json.dumps([entry])))
    assert (question.answer, question.answers, question.supporting_facts) == (None, (), ())
    assert question.context
    dump([question], tmp_path / "again")
    assert load(tmp_path / "again") == (question,)


@pytest.mark.parametrize(
    ("fields", "answers"),
    [
        ({"answer": ["Orm", "Port Orm", "Orm"]}, ("Orm", "Port Orm")),
        ({"answer": "Orm", "answer_aliases": ["Port Orm"]}, ("Orm", "Port Orm")),
        ({"answer": None, "golden_answers": ["Orm"]}, ("Orm",)),
        ({"answers": ["Orm"]}, ("Orm",)),
    ],
)
def test_aliases_are_answers_too(fields: dict[str, Any], answers: tuple[str, ...], tmp_path: Path) -> None:
    """A right answer under another name must not count as wrong."""
    entry = {**{key: value for key, value in HOTPOT.items() if key != "answer"}, **fields}
    (question,) = load(save(tmp_path / "q", json.dumps([entry])))
    assert question.answers == answers
    dump([question], tmp_path / "again")
    assert load(tmp_path / "again") == (question,)


WRAPPINGS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "list": lambda rows: json.dumps(rows).encode(),
    "lines": lambda rows: "\n".join(map(json.dumps, rows)).encode() + b"\n\n",
    "lines-crlf": lambda rows: "\r\n".join(map(json.dumps, rows)).encode(),
    "bom": lambda rows: b"\xef\xbb\xbf" + json.dumps(rows).encode(),
    "lines-bom": lambda rows: b"\xef\xbb\xbf" + "\n".join(map(json.dumps, rows)).encode(),
    "utf-16": lambda rows: json.dumps(rows, ensure_ascii=False).encode("utf-16"),
    "gzip": lambda rows: gzip.compress(json.dumps(rows).encode()),
    "lines-gzip": lambda rows: gzip.compress("\n".join(map(json.dumps, rows)).encode()),
    "data": lambda rows: json.dumps({"version": "1", "data": rows}).encode(),
    "rows": lambda rows: json.dumps({"rows": [{"row_idx": n, "row": row} for n, row in enumerate(rows)]}).encode(),
    "columns": lambda rows: json.dumps({name: [row[name] for row in rows] for name in rows[0]}).encode(),
    "numbered-columns": lambda rows: json.dumps(
        {name: {str(n): row[name] for n, row in enumerate(rows)} for name in rows[0]}
    ).encode(),
}


@pytest.mark.parametrize("layout", ["pairs", "columns"])
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_row_27_any_wrapping_of_any_layout_loads(wrapping: str, layout: str, tmp_path: Path) -> None:
    """An export, a download and a script give the same rows in other clothes."""
    entry, name = (HOTPOT, "_id") if layout == "pairs" else (COLUMNS, "id")
    rows = [entry, {**entry, name: "second", "question": "Line\u2028two?"}]
    first, second = load(save(tmp_path / "q", WRAPPINGS[wrapping](rows)))
    assert (first.id, second.id, second.question) == (entry[name], "second", "Line\u2028two?")
    assert first.supporting_facts == second.supporting_facts


@pytest.mark.parametrize(
    "ids", [{"_id": None, "id": "x"}, {"_id": "x", "id": None}, {"_id": "x", "id": "y"}, {"id": "x"}]
)
def test_whichever_id_there_is_counts(ids: dict[str, Any], tmp_path: Path) -> None:
    """Data sets that were joined have a column for each name, and null in one of them."""
    entry = {name: value for name, value in HOTPOT.items() if name != "_id"} | ids
    assert load(save(tmp_path / "q", json.dumps([entry])))[0].id == "x"


def test_a_title_in_another_unicode_form_is_the_same_title(tmp_path: Path) -> None:
    """The fact's title is decomposed, the passage's composed: unlike bytes, the same words."""
    entry = {**HOTPOT, "supporting_facts": [[unicodedata.normalize("NFD", "Café Vell"), 1]]}
    (question,) = load(save(tmp_path / "q", json.dumps([entry])))
    assert question.supporting_facts == (("Café Vell", 1),)


def test_unknown_types_are_named(tmp_path: Path) -> None:
    """Their hops are counted as "other": a message says so to a user who looks for "inference" in the dashboard."""
    rows = [{**TWO_WIKI, "_id": kind, "type": kind} for kind in ("comparison", "inference", "bridge_comparison")]
    assert mapped_types(load(save(tmp_path / "q", json.dumps(rows)))) == ("bridge_comparison", "inference")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (json.dumps([HOTPOT, {**HOTPOT, "_id": ""}]), r"entry 1, field _id"),
        (f"{json.dumps(HOTPOT)}\n\n{json.dumps(HOTPOT)}", r"line 3, field _id: expected an id of its own; line 1"),
        (f'{json.dumps(HOTPOT)}\n{{"_id": ', r"line 2: expected a JSON object"),
        (f"{json.dumps(HOTPOT)}\n7", r"line 2, field \(the entry\): expected an object"),
        (json.dumps([{**HOTPOT, "context": []}]), r"entry 0, field context: expected a non-empty list"),
        (json.dumps([{**HOTPOT, "answer": {"text": "x"}}]), r"entry 0, field answer: expected a text, or a list of"),
        (json.dumps([{**HOTPOT, "answer": ["x", 7]}]), r"field answer"),
        (json.dumps([{**HOTPOT, "supporting_facts": []}]), r"supporting_facts: expected a non-empty list"),
        (
            json.dumps([{**COLUMNS, "context": {"title": ["a"], "sentences": []}}]),
            r"context: expected columns title and sentences of one length",
        ),
        (json.dumps([{**COLUMNS, "supporting_facts": {"title": ["a"]}}]), r"columns title and sent_id"),
        (json.dumps([{**MUSIQUE, "paragraphs": []}]), r"field paragraphs"),
        (json.dumps([{**MUSIQUE, "paragraphs": [{"title": "x"}]}]), r"paragraphs\[0\]"),
        (json.dumps([{**MUSIQUE, "answerable": "no"}]), r"answerable: expected true or false"),
        (
            json.dumps([{**MUSIQUE, "paragraphs": [{**PARAGRAPH, "is_supporting": "true"}]}]),
            r"paragraphs\[0\]\.is_supp",
        ),
        (json.dumps([{**MUSIQUE, "paragraphs": [{**PARAGRAPH, "is_supporting": 1}]}]), r"paragraphs\[0\]\.is_supp"),
        (json.dumps({"rows": [{"row": HOTPOT, "truncated_cells": ["answer"]}]}), r"Entry 0 was truncated"),
        (json.dumps({"data": []}), r"an empty list"),
        (json.dumps({"question": ["a"], "id": ["x", "y"]}), r"has a dict"),
        (b"PK\x03\x04zip", r"a zip archive"),
        (b"PAR1", r"a Parquet file"),
        (gzip.compress(b"[" * 5000, mtime=0)[:-20], r"EOFError|error"),
        (b"\x1f\x8bnot gzip", r"cannot be read"),
    ],
)
def test_row_27_what_cannot_be_used_is_one_line_with_its_place(content: bytes | str, says: str, tmp_path: Path) -> None:
    """In a file of 90,000 rows the refusal says which row, which field, and what was expected."""
    with pytest.raises(UsageError, match=says) as refused:
        load(save(tmp_path / "q", content))
    assert "\n" not in str(refused.value)


def test_a_packed_file_unfolds_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kilobyte can unfold to a terabyte."""
    monkeypatch.setattr(question_file, "MAX_BYTES", 10_000)
    with pytest.raises(UsageError, match="more than"):
        load(save(tmp_path / "q", gzip.compress(b" " * 1_000_000)))

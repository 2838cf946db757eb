"""Metadata of foreign stores is anybody's: reading it must not end a run."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workload.corpus.document import read_document

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=20))


@given(st.text(max_size=60), st.dictionaries(st.sampled_from(["title", "sentences", "page"]), SCALARS))
def test_any_metadata_gives_a_document(text: str, metadata: dict[str, object]) -> None:
    """Whatever the maker of the store wrote, the agent gets a title and sentences."""
    document = read_document("id-1", text, metadata, 0.5)
    assert document.title
    assert all(isinstance(sentence, str) for sentence in document.sentences)
    assert document.text == text


@pytest.mark.parametrize("stored", ["[1]", "{}", "[", '"x"', "[" * 100_000, "[]", 7])
def test_sentences_that_are_none_fall_back_to_a_split(stored: object) -> None:
    """Another program's field of the same name may contain anything."""
    document = read_document("id-1", "One here. Two there.", {"sentences": stored}, 0)
    assert document.sentences == ("One here.", "Two there.")


def test_stored_sentences_win_over_a_split() -> None:
    """A split is a guess; the supporting facts count the sentences as the corpus has them."""
    stored = json.dumps(["Dr. Oran slept.", " He woke."])
    assert read_document("id-1", "Dr. Oran slept. He woke.", {"sentences": stored}, 0).sentences == (
        "Dr. Oran slept.",
        " He woke.",
    )


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three? 4 is four.", ("One.", "Two!", "Three?", "4 is four.")),
        ("It cost 3.50 then. e.g. this stays whole.", ("It cost 3.50 then. e.g. this stays whole.",)),
        ("No end", ("No end",)),
    ],
)
def test_the_split_is_simple_and_known(text: str, sentences: tuple[str, ...]) -> None:
    """It decides what the model sees numbered, so a change of it changes results on foreign stores."""
    assert read_document("id-1", text, None, 0).sentences == sentences


def test_a_record_without_text_is_still_a_document() -> None:
    """One such record among millions must not stop a search."""
    assert read_document("id-1", None, None, 1.5).text == ""

"""The inputs of an app, and what of a file is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from workload.corpus.inputs import NOT_OURS, read_inputs
from workload.errors import UsageError


def test_rows_become_questions(tmp_path: Path) -> None:
    """`input` goes to the app as it is; our own agent gets its question by the same door."""
    path = tmp_path / "inputs.jsonl"
    path.write_text('{"id": "a", "input": {"x": [1]}, "answer": "yes", "type": "bridge"}\n\n{"id": "b", "input": {}}\n')
    corpus = read_inputs(path)
    assert [question.given for question in corpus.questions] == [{"x": [1]}, {}]
    assert [question.answers for question in corpus.questions] == [("yes",), ()]
    assert corpus.source
    assert (corpus.source.rows, corpus.source.without_answer, corpus.source.store) == (2, 1, NOT_OURS)
    assert corpus.store.mark() is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has no rows"),
        ("{", "line 1"),
        ('{"id": "a"}', "line 1: input: field required"),
        ('{"id": "a", "input": 3}', "line 1: input"),
        ('{"id": "", "input": {}}', "line 1: id"),
        ('{"id": "a", "input": {}, "anwser": "x"}', "line 1: anwser: extra inputs"),
        ('{"id": "a", "input": {}}\n{"id": "a", "input": {}}', "line 2: the id 'a' is there twice"),
    ],
)
def test_a_row_that_is_no_input_is_named(tmp_path: Path, text: str, why: str) -> None:
    """The message names the file, the line and the field."""
    path = tmp_path / "inputs.jsonl"
    path.write_text(text)
    with pytest.raises(UsageError) as error:
        read_inputs(path)
    assert why in str(error.value)
    assert str(path) in str(error.value)


def test_the_examples_inputs_are_readable() -> None:
    """Whoever tries the example must not meet a format of yesterday."""
    corpus = read_inputs(Path(__file__).parents[3] / "workload" / "examples" / "corrective_rag.jsonl")
    assert len(corpus.questions) == 60
    assert all(question.answers and question.given.keys() == {"question"} for question in corpus.questions)

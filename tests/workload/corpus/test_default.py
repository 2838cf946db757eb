"""Which corpus a run has: a named one is used or refused, and the manifest says which was used."""

from __future__ import annotations

import hashlib
import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console
from rich.progress import Progress

from workload.corpus.default import Corpus, open_corpus, require_same_corpus
from workload.errors import UsageError
from workload.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import WordEmbedder

pytestmark = pytest.mark.usefixtures("probed_here")

CONTEXT = [["Vell", ["Vell is a tavern.", "It stands in Orm."]], ["Orm", ["Orm is a port."]]]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep what is indexed out of the user's cache."""
    monkeypatch.setenv("HOP2RAG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(path: Path, **fields: Any) -> Path:
    """Write a file of one question."""
    entry = {"_id": "q1", "question": "Where is Vell?", "context": CONTEXT, **fields}
    path.write_text(json.dumps([entry]))
    return path


def opened(embedder: WordEmbedder, **given: Any) -> tuple[Corpus, str]:
    """Open the corpus that is named; return it with what was said."""
    said = io.StringIO()
    settings = load_settings({"limit": 1, "max_hops": 1, "k": 2, **given}, {})
    with Progress(console=Console(file=said, width=300)) as progress:
        return open_corpus(settings.corpus, settings.places.chroma_url, embedder, progress), said.getvalue()


def test_row_27_questions_without_a_store_are_indexed_and_used(tmp_path: Path, embedder: WordEmbedder) -> None:
    """They were set aside without a word: a full result of the synthetic corpus, under the name of the user's file."""
    path = write(tmp_path / "mine.json", answer="Orm", supporting_facts=[["Vell", 1]], type="bridge")
    corpus, _ = opened(embedder, questions=path)
    assert [question.id for question in corpus.questions] == ["q1"]
    found = corpus.store.search(embedder.encode(["Vell. Vell is a tavern. It stands in Orm."])[0], 5)
    assert {document.title for document in found} == {"Vell", "Orm"}
    reported = corpus.source_dict()
    assert reported is not None
    assert reported["questions"] == str(path)
    assert reported["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (reported["rows"], reported["passages"], reported["without_answer"]) == (1, 2, 0)
    assert reported["collection"].startswith("questions-")
    indexed = embedder.encoded
    assert opened(embedder, questions=path)[0].source_dict() == reported
    assert embedder.encoded == indexed  # the second time nothing is embedded again


def test_a_blind_file_and_unknown_types_are_announced(tmp_path: Path, embedder: WordEmbedder) -> None:
    """Empty cells of a table hours later are no way to learn that nothing was scored."""
    corpus, said = opened(embedder, questions=write(tmp_path / "blind.json", type="inference"))
    assert "1 of 1 questions have no gold answer: no question is scored." in said
    assert 'These types count as "other" in hop2rag_hops: inference.' in said
    reported = corpus.source_dict()
    assert reported is not None
    assert (reported["without_answer"], reported["other_types"]) == (1, ("inference",))


@pytest.mark.parametrize("content", ['{"a":', '[{"q":"x"}]', "[]", None])
def test_a_file_that_is_none_is_refused(content: str | None, tmp_path: Path, embedder: WordEmbedder) -> None:
    """Whatever else is named or not: rc 0 on a missing file was the worst of all answers."""
    path = tmp_path / "bad.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=r"bad\.json"):
        opened(embedder, questions=path)
    assert embedder.encoded == 0


def test_a_store_without_questions_is_refused(tmp_path: Path, embedder: WordEmbedder) -> None:
    """Its passages answer no question that we know."""
    with pytest.raises(UsageError, match="--questions"):
        opened(embedder, persist_dir=tmp_path)


@pytest.mark.parametrize("more", [{}, {"questions": "q.json"}])
def test_row_27_a_collection_without_a_store_is_refused(more: dict[str, str]) -> None:
    """It was set aside without a word, and stood in the manifest as if it had been used."""
    with pytest.raises(UsageError, match="--persist-dir"):
        load_settings({"limit": 1, "max_hops": 1, "k": 2, "collection": "nosuch", **more}, {})


def test_a_run_goes_on_with_its_own_corpus_alone(tmp_path: Path, embedder: WordEmbedder) -> None:
    """Half of a run on other questions is no run; the file may have been written anew under its name."""
    path = write(tmp_path / "mine.json", answer="Orm")
    before = opened(embedder, questions=path)[0].source_dict()
    require_same_corpus("r", before, before)
    require_same_corpus("r", None, before)  # a run of a release that did not record it
    after = opened(embedder, questions=write(path, answer="Vell"))[0].source_dict()
    with pytest.raises(UsageError, match="Run r had another corpus: sha256"):
        require_same_corpus("r", before, after)

"""The corpus of a run: the named store, the passages of the named questions, or a synthetic one, without a download.

A named store or file is used or refused, never ignored. The manifest says which corpus was used.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from workload.corpus.hotpotqa import Question, dump, unique_paragraphs
from workload.corpus.index import DEFAULT_COLLECTION, build
from workload.corpus.layouts import load, mapped_types
from workload.corpus.manifest import content_hash
from workload.corpus.question_file import digest
from workload.corpus.served import ServedStore, build_served
from workload.corpus.store import Store, check
from workload.corpus.synthetic import generate
from workload.errors import UsageError
from workload.files.atomic_file import make_folder
from workload.paths import cache_dir

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rich.progress import Progress

    from workload.corpus.document import DocumentStore
    from workload.corpus.embedding import Embedder
    from workload.settings import CorpusSettings

QUESTIONS, PASSAGES, SEED = 200, 600, 0
COLLECTION = f"synthetic-{PASSAGES}"
HASH_DIGITS = 16
SAME = ("sha256", "collection", "passages")


@dataclass(frozen=True, kw_only=True)
class CorpusSource:
    """The origin of a corpus.

    Attributes:
        without_answer: how many of them have no gold answer and are not scored.
        other_types: types of questions that count as "other" in `hop2rag_hops`.
        store: the folder of the Chroma store, or its server's URL.
    """

    questions: str
    sha256: str
    rows: int
    without_answer: int
    other_types: tuple[str, ...]
    store: str
    collection: str
    passages: int


@dataclass(frozen=True)
class Corpus:
    """An open document store and the questions to ask about it; `source` is None only in tests."""

    store: DocumentStore
    questions: tuple[Question, ...]
    source: CorpusSource | None = None

    def source_dict(self) -> dict[str, Any] | None:
        """Return the source for a manifest."""
        return asdict(self.source) if self.source else None


def open_corpus(settings: CorpusSettings, chroma_url: str | None, embedder: Embedder, progress: Progress) -> Corpus:
    """Return the corpus that the settings name, checked. Passages that are not indexed yet are indexed first.

    Raises:
        UsageError: the store or the file of questions is not usable, or a store is named without questions.
        DependencyDownError: the store is locked or corrupt, or Chroma's server does not answer.
    """
    if settings.persist_dir and settings.questions is None:
        raise UsageError(
            f"The store {settings.persist_dir} has no questions.",
            "Name their file with --questions or HOP2RAG_QUESTIONS.",
        )
    folder = cache_dir() / "corpus"
    path = settings.questions or _synthetic(folder)
    questions = load(path)
    if chroma_url:
        collection = settings.collection or (DEFAULT_COLLECTION if settings.questions else COLLECTION)
        paragraphs = unique_paragraphs(questions)
        count = build_served(paragraphs, chroma_url, collection, embedder, progress=progress)
        store: DocumentStore = ServedStore(chroma_url, collection)
        where = chroma_url
    else:
        persist_dir, collection = settings.persist_dir, settings.collection or DEFAULT_COLLECTION
        if persist_dir is None:
            persist_dir, paragraphs = folder / "chroma", unique_paragraphs(questions)
            collection = f"questions-{content_hash(paragraphs)[:HASH_DIGITS]}" if settings.questions else COLLECTION
            build(paragraphs, persist_dir, collection, embedder, progress=progress)
        facts = check(persist_dir, collection, embedder)
        store, where, count = Store(facts), str(persist_dir), facts.count
    unanswered = sum(question.answer is None for question in questions)
    source = CorpusSource(
        questions=str(path),
        sha256=digest(path),
        rows=len(questions),
        without_answer=unanswered,
        other_types=mapped_types(questions),
        store=where,
        collection=collection,
        passages=count,
    )
    _report(source, progress)
    return Corpus(store, questions, source)


def require_same_corpus(run: str, before: object, now: Mapping[str, Any] | None) -> None:
    """Refuse to resume a run on other questions or passages.

    Raises:
        UsageError: the file or the store has changed.
    """
    if isinstance(before, dict) and now and (other := [name for name in SAME if before.get(name) != now[name]]):
        found = "; ".join(f"{name} {before.get(name)!r}, now {now[name]!r}" for name in other)
        raise UsageError(f"Run {run} had another corpus: {found}.", "Bring it back, or start a new run.")


def _report(source: CorpusSource, progress: Progress) -> None:
    """Print the properties of the file that affect the numbers."""
    if source.without_answer:
        scored = "no question is scored" if source.without_answer == source.rows else "these are not scored"
        _print(progress, f"{source.without_answer} of {source.rows} questions have no gold answer: {scored}.")
    if source.other_types:
        _print(progress, f'These types count as "other" in hop2rag_hops: {", ".join(source.other_types)}.')


def _print(progress: Progress, text: str) -> None:
    progress.console.print(text, markup=False, highlight=False)


def _synthetic(folder: Path) -> Path:
    path = folder / f"{COLLECTION}.json"
    if not path.exists():
        make_folder(folder)
        dump(generate(QUESTIONS, PASSAGES, SEED), path)
    return path

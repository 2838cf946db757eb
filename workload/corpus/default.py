"""The corpus that is used when none is named: synthetic, made and indexed on first use, so nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workload.corpus.hotpotqa import dump, load, unique_paragraphs
from workload.corpus.index import DEFAULT_COLLECTION, build
from workload.corpus.served import ServedStore, build_served
from workload.corpus.store import Store, check
from workload.corpus.synthetic import generate
from workload.errors import UsageError
from workload.paths import cache_dir

if TYPE_CHECKING:
    from pathlib import Path

    from rich.progress import Progress

    from workload.agent.retrieval import DocumentStore
    from workload.corpus.embedding import Embedder
    from workload.corpus.hotpotqa import Question
    from workload.settings import Settings

QUESTIONS, PASSAGES, SEED = 200, 600, 0
COLLECTION = f"synthetic-{PASSAGES}"


@dataclass(frozen=True)
class Corpus:
    """An open document store and the questions to ask about it."""

    store: DocumentStore
    questions: tuple[Question, ...]


def open_corpus(settings: Settings, embedder: Embedder, progress: Progress) -> Corpus:
    """Return the corpus that the settings name, checked, or the synthetic one, made if it is not there.

    Raises:
        UsageError: the store does not fit, or a store is named without its questions.
        DependencyDownError: the store is locked or corrupt, or Chroma's server does not answer.
    """
    if settings.chroma_url:
        return _served(settings, settings.chroma_url, embedder, progress)
    if settings.persist_dir is None:
        return _synthetic(cache_dir() / "corpus", embedder, progress)
    if settings.questions is None:
        raise UsageError(
            f"The store {settings.persist_dir} comes without questions.",
            "Name HotpotQA's JSON file with --questions or HOP2RAG_QUESTIONS.",
        )
    facts = check(settings.persist_dir, settings.collection or DEFAULT_COLLECTION, embedder)
    return Corpus(Store(facts), load(settings.questions))


def _served(settings: Settings, url: str, embedder: Embedder, progress: Progress) -> Corpus:
    """Return a corpus in a server, which is indexed there first if it is not."""
    if settings.questions:
        questions, collection = load(settings.questions), settings.collection or DEFAULT_COLLECTION
    else:
        questions, collection = _questions(cache_dir() / "corpus"), COLLECTION
    build_served(unique_paragraphs(questions), url, collection, embedder, progress=progress)
    return Corpus(ServedStore(url, collection), questions)


def _questions(folder: Path) -> tuple[Question, ...]:
    path = folder / f"{COLLECTION}.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        dump(generate(QUESTIONS, PASSAGES, SEED), path)
    return load(path)


def _synthetic(folder: Path, embedder: Embedder, progress: Progress) -> Corpus:
    questions = _questions(folder)
    build(unique_paragraphs(questions), folder / "chroma", COLLECTION, embedder, progress=progress)
    return Corpus(Store(check(folder / "chroma", COLLECTION, embedder)), questions)

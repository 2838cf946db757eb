"""A tokenizer and a template as a model's folder has them, and simulated calls: no engine needs to be installed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from rich.progress import Progress

from tests.workload.corpus.conftest import WordEmbedder
from workload.corpus.hotpotqa import unique_paragraphs
from workload.corpus.index import build
from workload.corpus.probe import examine
from workload.corpus.store import Store, check
from workload.kv_cache.simulated import from_gold_facts, simulate
from workload.record.journal import Journal
from workload.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from workload.corpus.hotpotqa import Question
    from workload.corpus.tokenizer import ChatTokenizer
    from workload.kv_cache.source import SentCall

COLLECTION, BLOCK_SIZE = "small", 16


@pytest.fixture(autouse=True)
def probed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probe stores in this process: a whole one crashes nothing, and a child takes a second to import Chroma."""
    monkeypatch.setattr("workload.corpus.store.probe", examine)


@pytest.fixture(scope="session")
def store_folder(tmp_path_factory: pytest.TempPathFactory, questions: tuple[Question, ...]) -> Path:
    """A store of the questions' passages."""
    folder = tmp_path_factory.mktemp("store")
    build(unique_paragraphs(questions), folder, COLLECTION, WordEmbedder())
    return folder


@dataclass(frozen=True)
class Simulation:
    """Simulated calls by layout, and the journal that was written with them, texts included."""

    arms: dict[str, list[SentCall]]
    journal: Path


@pytest.fixture(scope="session")
def simulation(
    tmp_path_factory: pytest.TempPathFactory,
    questions: tuple[Question, ...],
    store_folder: Path,
    tokenizer: ChatTokenizer,
) -> Simulation:
    """Six questions simulated in all layouts."""
    flags: dict[str, Any] = {"limit": 6, "max_hops": 3, "k": 10, "record_prompts": True}
    settings, embedder = load_settings(flags, {}), WordEmbedder()
    path = tmp_path_factory.mktemp("simulated") / "journal.sqlite"
    store = Store(check(store_folder, COLLECTION, embedder))
    with Journal(path, {}) as journal, Progress(disable=True) as progress:
        arms = simulate(
            questions[:6],
            from_gold_facts(questions),
            store=store,
            embedder=embedder,
            tokenizer=tokenizer,
            settings=settings,
            block_size=BLOCK_SIZE,
            journal=journal,
            progress=progress,
        )
    return Simulation(arms, path)

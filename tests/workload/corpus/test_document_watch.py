"""Somebody else writes to the store in mid-run: what is found is no longer what was checked, and the run says so."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.workload.corpus.conftest import COLLECTION, WordEmbedder
from workload.corpus.document import Mark, StoreWatch
from workload.corpus.store import Store, check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("probed_here")

WRITES = {
    "upsert": "collection.upsert(ids=[first], embeddings=[vector], documents=['other words'])",
    "delete": "collection.delete(ids=[first])",
    "add": "collection.add(ids=['stranger'], embeddings=[vector], documents=['new words'])",
    "metadata": "collection.update(ids=[first], metadatas=[{'title': 'Another'}])",
}
PROGRAM = """
import sys
from pathlib import Path
from contextlib import closing
from workload.corpus.chroma import open_client, open_collection
with closing(open_client(Path(sys.argv[1]))) as client:
    collection = open_collection(client, sys.argv[2])
    sample = collection.get(limit=1, include=["embeddings"])
    first, vector = sample["ids"][0], sample["embeddings"][0]
    {write}
"""


@pytest.fixture
def store(store_dir: Path) -> Iterator[Store]:
    """Return an open store that another process may write to."""
    opened = Store(check(store_dir, COLLECTION, WordEmbedder()))
    yield opened
    opened.close()


@pytest.mark.parametrize("write", WRITES)
def test_row_27_another_processs_write_is_noticed_once(store: Store, write: str) -> None:
    """Chroma's own search does not see it, or sees a part of it: an upsert leaves even the count as it was."""
    watch = StoreWatch(store)
    assert watch.change() is None
    program = PROGRAM.format(write=WRITES[write])
    subprocess.run([sys.executable, "-c", program, str(store.facts.persist_dir), COLLECTION], check=True)
    change = watch.change()
    assert change is not None
    assert "1200 documents" in change
    assert watch.change() is None


def test_another_collections_writes_are_none_of_ours(store: Store) -> None:
    """One store serves many: a run must not be flagged for what it never searches."""
    watch = StoreWatch(store)
    other = store._client.create_collection("another", embedding_function=None)
    other.add(ids=["1"], embeddings=[[1.0, 2.0]], documents=["x"])
    assert watch.change() is None


def test_a_busy_store_is_not_a_changed_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be read now is read at the next look; it neither ends a run nor flags it."""
    watch = StoreWatch(store)

    def locked(_: Path) -> sqlite3.Connection:
        raise sqlite3.OperationalError("database is locked")

    with monkeypatch.context() as patch:
        patch.setattr("workload.corpus.store.connect", locked)
        assert store.mark() is None
        assert watch.change() is None
    assert watch.change() is None


def marks(*reported: Mark | None) -> Callable[[], Mark | None]:
    """Return a function that returns these states one after the other."""
    left = iter(reported)
    return lambda: next(left)


class Told:
    """A store that reports the given state."""

    def __init__(self, *reported: Mark | None) -> None:
        self.mark = marks(*reported)


def test_a_change_across_a_gap_is_noticed() -> None:
    """A look that failed in between must not become the state to compare with."""
    watch = StoreWatch(Told(Mark(5, 5), None, Mark(6, 6)))
    assert watch.change() is None
    assert watch.change() == "5 documents after write 5, then 6 documents after write 6"


def test_a_served_store_is_compared_by_its_count() -> None:
    """A Chroma server reports only the count; what it does not report counts as unchanged."""
    watch = StoreWatch(Told(None, Mark(5, None), Mark(4, None)))
    assert watch.change() is None
    assert watch.change() == "5 documents, then 4 documents"

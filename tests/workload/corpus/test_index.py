"""An index is built once and trusted for months: it must be whole, or say that it is not."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.progress import Progress

from workload.corpus.chroma import open_client, open_collection
from workload.corpus.index import build
from workload.corpus.manifest import content_hash, read_manifest
from workload.corpus.store import Store, check
from workload.errors import DependencyDownError, StorageError, UsageError

if TYPE_CHECKING:
    from conftest import WordEmbedder

    from workload.corpus.hotpotqa import Paragraph

pytestmark = pytest.mark.usefixtures("probed_here")

COLLECTION = "passages"

# builds as the tests do, and is killed in the middle of writing after so many batches
KILLED_BUILD = """
import os, pathlib, signal, sys, threading
sys.path.insert(0, sys.argv[1])
from conftest import PASSAGES, WordEmbedder
from workload.corpus.index import build
from workload.corpus.synthetic import build_world

class Doomed(WordEmbedder):
    def encode(self, texts):
        if self.encoded >= int(sys.argv[3]) * 100:
            threading.Timer(float(sys.argv[4]), os.kill, (os.getpid(), signal.SIGKILL)).start()
        return super().encode(texts)

build(build_world(PASSAGES, 1).paragraphs, pathlib.Path(sys.argv[2]), "passages", Doomed(), batch_size=100)
"""


def test_the_manifest_names_what_was_indexed(
    store_dir: Path, paragraphs: tuple[Paragraph, ...], embedder: WordEmbedder
) -> None:
    """A result names its corpus by these fields; the pre-flight compares them."""
    manifest = read_manifest(store_dir, COLLECTION)
    assert manifest
    assert (manifest.collection, manifest.embedding_model, manifest.dimension) == (COLLECTION, "words", 48)
    assert manifest.count == len(paragraphs)
    assert manifest.content_hash == content_hash(reversed(paragraphs))
    facts = check(store_dir, COLLECTION, embedder)
    assert (facts.count, facts.dimension, facts.space, facts.manifest) == (len(paragraphs), 48, "cosine", manifest)
    assert embedder.encoded == 0


def test_a_search_finds_what_was_put_in(
    store_dir: Path, paragraphs: tuple[Paragraph, ...], embedder: WordEmbedder
) -> None:
    """Titles and sentences come back as they went in, or the supporting facts could not be named."""
    store = Store(check(store_dir, COLLECTION, embedder))
    for paragraph in paragraphs[::200]:
        [vector] = embedder.encode([f"{paragraph.title}. {paragraph.text}"])
        documents = store.search(vector, 10)
        assert [document.distance for document in documents] == sorted(document.distance for document in documents)
        assert len(documents) == 10
        nearest = documents[0]
        assert (nearest.id, nearest.title, nearest.text) == (paragraph.id, paragraph.title, paragraph.text)
        assert nearest.sentences == paragraph.sentences
        assert nearest.distance == pytest.approx(0, abs=1e-5)
    store.close()


def test_building_again_costs_no_embedding(
    store_dir: Path, paragraphs: tuple[Paragraph, ...], embedder: WordEmbedder
) -> None:
    """The second quickstart takes the index that is there, in whatever order the passages come."""
    before = read_manifest(store_dir, COLLECTION)
    assert build(paragraphs[::-1], store_dir, COLLECTION, embedder) == before
    assert embedder.encoded == 0


@pytest.mark.parametrize(("batches", "delay_seconds"), [("0", "0"), ("3", "0.01"), ("10", "0")])
def test_a_killed_build_is_not_used_and_goes_on(
    batches: str,
    delay_seconds: str,
    tmp_path: Path,
    paragraphs: tuple[Paragraph, ...],
    embedder: WordEmbedder,
) -> None:
    """Half a corpus would answer every query and score low; nothing but the missing manifest would show it."""
    folder = tmp_path / "store"
    argv = [sys.executable, "-c", KILLED_BUILD, str(Path(__file__).parent), str(folder), batches, delay_seconds]
    killed = subprocess.run(argv, check=False, timeout=60)
    assert killed.returncode == -9
    with pytest.raises(UsageError):
        check(folder, COLLECTION, embedder)
    assert build(paragraphs, folder, COLLECTION, embedder, batch_size=100).count == len(paragraphs)
    assert embedder.encoded <= len(paragraphs) - 100 * int(batches)
    with closing(open_client(folder)) as client:
        stored: Any = open_collection(client, COLLECTION).get(include=["embeddings"])
    assert sorted(stored["ids"]) == sorted(paragraph.id for paragraph in paragraphs)
    assert stored["embeddings"].shape == (len(paragraphs), 48)


def test_a_finished_index_of_other_content_needs_a_word(
    store_dir: Path, paragraphs: tuple[Paragraph, ...], embedder: WordEmbedder
) -> None:
    """Hours of embedding must not go because a flag named another size; asked to replace, it does."""
    with pytest.raises(UsageError, match=r"found another index \(1200 documents, words\).*--replace"):
        build(paragraphs[:50], store_dir, COLLECTION, embedder)
    assert check(store_dir, COLLECTION, embedder).count == len(paragraphs)
    assert build(paragraphs[:50], store_dir, COLLECTION, embedder, replace=True).count == 50
    assert check(store_dir, COLLECTION, embedder).count == 50


def test_an_unfinished_index_of_other_content_is_redone(
    store_dir: Path, paragraphs: tuple[Paragraph, ...], embedder: WordEmbedder
) -> None:
    """Its leftovers would otherwise be among the passages for ever."""
    (store_dir / f"{COLLECTION}.manifest.json").unlink()
    assert build(paragraphs[:50], store_dir, COLLECTION, embedder).count == 50
    assert check(store_dir, COLLECTION, embedder).count == embedder.encoded == 50


def test_another_model_is_another_index(
    store_dir: Path, paragraphs: tuple[Paragraph, ...], embedder: WordEmbedder
) -> None:
    """Vectors of two models of the same dimension would mix without any error."""
    embedder.name = "letters"
    with pytest.raises(UsageError, match="--replace"):
        build(paragraphs, store_dir, COLLECTION, embedder)


def test_a_manifest_without_its_store_is_no_index(
    store_dir: Path, paragraphs: tuple[Paragraph, ...], embedder: WordEmbedder
) -> None:
    """A user who deletes the database to save space must get it built again, not read that it exists."""
    (store_dir / "chroma.sqlite3").unlink()
    assert build(paragraphs[:50], store_dir, COLLECTION, embedder).count == 50


def test_a_foreign_collection_is_never_touched(
    tmp_path: Path, paragraphs: tuple[Paragraph, ...], embedder: WordEmbedder
) -> None:
    """The store named in the environment may be the work of weeks by somebody else."""
    with closing(open_client(tmp_path)) as client:
        foreign = client.create_collection(COLLECTION, embedding_function=None)
        foreign.add(ids=["a", "b"], embeddings=embedder.encode(["sea salt", "rye bread"]), documents=["Salt.", "Rye."])
    for may_replace in (False, True):
        with pytest.raises(UsageError, match="one of another program"):
            build(paragraphs[:5], tmp_path, COLLECTION, embedder, replace=may_replace)
    assert check(tmp_path, COLLECTION, embedder).count == 2


def test_a_foreign_store_can_be_searched(tmp_path: Path, embedder: WordEmbedder) -> None:
    """A store may have been made by other code: other metadata, another space, no manifest."""
    with closing(open_client(tmp_path)) as client:
        foreign = client.create_collection(COLLECTION, embedding_function=None)
        foreign.add(
            ids=["a", "b"],
            embeddings=embedder.encode(["sea salt", "rye bread"]),
            documents=["It is salt. Dr. Oran made it! Who ate it?", "Rye."],
            metadatas=[{"title": "Sea salt"}, {"page": 3}],
        )
    facts = check(tmp_path, COLLECTION, embedder)
    assert (facts.manifest, facts.space, facts.count) == (None, "l2", 2)
    store = Store(facts)
    salt, rye = store.search(embedder.encode(["sea salt"])[0], 5)
    assert (salt.title, rye.title) == ("Sea salt", "b")
    assert salt.sentences[0] == "It is salt."
    assert " ".join(salt.sentences) == salt.text
    store.close()


def test_two_builders_do_not_meet(store_dir: Path, paragraphs: tuple[Paragraph, ...], embedder: WordEmbedder) -> None:
    """Each would keep a vector index of its own in memory, and the last to write would win."""
    with (store_dir / ".hop2rag-index.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DependencyDownError, match="only builder"):
            build(paragraphs, store_dir, COLLECTION, embedder)


def test_a_disk_that_is_full_at_the_end_leaves_an_unfinished_index(
    tmp_path: Path, paragraphs: tuple[Paragraph, ...], embedder: WordEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest is the last write and the likeliest to fail; what is there then must not pass for finished."""

    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(StorageError, match="No space left"):
            build(paragraphs[:20], tmp_path, COLLECTION, embedder)
    with pytest.raises(UsageError, match="not finished"):
        check(tmp_path, COLLECTION, embedder)
    assert build(paragraphs[:20], tmp_path, COLLECTION, embedder).count == 20
    assert embedder.encoded == 20


def test_progress_counts_every_passage(
    tmp_path: Path, paragraphs: tuple[Paragraph, ...], embedder: WordEmbedder
) -> None:
    """A bar that ends at 97 % looks like a build that hangs."""
    progress = Progress(disable=True)
    build(paragraphs[:25], tmp_path, COLLECTION, embedder, batch_size=10, progress=progress)
    assert [(task.completed, task.total) for task in progress.tasks] == [(25, 25)]


def test_a_repeated_passage_is_indexed_once(
    tmp_path: Path, paragraphs: tuple[Paragraph, ...], embedder: WordEmbedder
) -> None:
    """Questions share passages, and a caller may pass them as they come."""
    twin = replace(paragraphs[0], title="Another title")
    assert build([*paragraphs[:3], *paragraphs[:3], twin], tmp_path, COLLECTION, embedder).count == 4


@pytest.mark.parametrize("collection", ["../outside", "..", "a/b", "", "a", "-abc", "nul\0", "x" * 65])
def test_a_bad_collection_name_writes_nothing_outside(
    collection: str, tmp_path: Path, paragraphs: tuple[Paragraph, ...], embedder: WordEmbedder
) -> None:
    """Row 20: the name becomes a file name; nothing may be written outside the folder, nor a broken index inside."""
    with pytest.raises(UsageError):
        build(paragraphs[:2], tmp_path / "store", collection, embedder)
    assert {path.name for path in tmp_path.iterdir()} <= {"store"}
    assert not list(tmp_path.rglob("*.manifest.json"))


@pytest.mark.parametrize("folder", ["file", "file/below", "nul\0"])
def test_a_folder_that_cannot_be_one_is_refused(
    folder: str, tmp_path: Path, paragraphs: tuple[Paragraph, ...], embedder: WordEmbedder
) -> None:
    """A file in the way is a mistake in the setting, reported in a line that names the path."""
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UsageError, match="expected a folder"):
        build(paragraphs[:2], tmp_path / folder, COLLECTION, embedder)
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize(("count", "batch_size"), [(0, 10), (2, 0), (2, -1)])
def test_nothing_to_do_is_refused(
    count: int, batch_size: int, tmp_path: Path, paragraphs: tuple[Paragraph, ...], embedder: WordEmbedder
) -> None:
    """An empty index would be refused by the check later, further from the cause."""
    with pytest.raises(UsageError, match="Cannot index"):
        build(paragraphs[:count], tmp_path, COLLECTION, embedder, batch_size=batch_size)


def test_the_manifest_is_plain_json(store_dir: Path) -> None:
    """Other programs read it; a change of its fields is a change for them."""
    manifest = json.loads((store_dir / f"{COLLECTION}.manifest.json").read_text())
    assert sorted(manifest) == [
        "chromadb_version",
        "collection",
        "content_hash",
        "count",
        "created",
        "dimension",
        "embedding_model",
    ]

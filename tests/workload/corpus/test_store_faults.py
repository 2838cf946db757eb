"""Row 17 of the fault table: whatever is wrong with a store is reported before any engine takes GPU time."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest

from workload.corpus.chroma import open_client
from workload.corpus.index import build
from workload.corpus.store import check
from workload.errors import DependencyDownError, Hop2RagError, StorageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Fault = Callable[[Path], object]
    from conftest import WordEmbedder

    from workload.corpus.hotpotqa import Paragraph

COLLECTION = "passages"


def _execute(sql: str) -> Fault:
    def fault(folder: Path) -> None:
        with closing(sqlite3.connect(folder / "chroma.sqlite3")) as database, database:
            database.execute(sql)

    return fault


def _vector_file(folder: Path, name: str) -> Path:
    return next(folder.glob(f"*/{name}"))


def _edit_manifest(old: str, new: str) -> Fault:
    def fault(folder: Path) -> None:
        path = folder / f"{COLLECTION}.manifest.json"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return fault


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    with closing(open_client(folder)) as client:
        client.create_collection(COLLECTION, embedding_function=None)


def _without_texts(folder: Path) -> None:
    shutil.rmtree(folder)
    with closing(open_client(folder)) as client:
        vector = np.ones((1, 48), dtype=np.float32)
        client.create_collection(COLLECTION, embedding_function=None).add(ids=["1"], embeddings=vector)


USAGE: dict[str, tuple[Fault, str, str]] = {
    "folder missing": (shutil.rmtree, "a folder with a Chroma store", "no such folder"),
    "database missing": (lambda folder: (folder / "chroma.sqlite3").unlink(), "chroma.sqlite3", "without one"),
    "no collection": (_execute("UPDATE collections SET name = 'other'"), "a collection of that name", "other"),
    "no Chroma database": (lambda folder: os.truncate(folder / "chroma.sqlite3", 0), "schema of chromadb", "none"),
    "older schema": (_execute("DELETE FROM migrations WHERE dir = 'sysdb' AND version > 8"), "schema", "sysdb 8"),
    "newer schema": (
        _execute("INSERT INTO migrations VALUES ('sysdb', 99, 'x.sql', 'select 1', 'x')"),
        "schema",
        "sysdb 99",
    ),
    "other major": (_edit_manifest('"chromadb_version": "1.', '"chromadb_version": "0.'), "chromadb 1", "found 0"),
    "other count": (_edit_manifest('"count": 1200', '"count": 1300'), "number of documents 1300", "found 1200"),
    "other model": (_edit_manifest('"words"', '"letters"'), "embedding model words", "found letters"),
    "other content": (_edit_manifest('"content_hash": "', '"content_hash": "0'), "a finished index", "another content"),
    "not finished": (lambda folder: (folder / f"{COLLECTION}.manifest.json").unlink(), "finished", "not finished"),
    "empty": (_empty, "documents", "an empty collection"),
    "vectors alone": (_without_texts, "vectors with texts", "vectors alone"),
}

CORRUPT: dict[str, Fault] = {
    "database cut short": lambda folder: os.truncate(folder / "chroma.sqlite3", 5_000),
    "database cut in half": lambda folder: os.truncate(
        folder / "chroma.sqlite3", (folder / "chroma.sqlite3").stat().st_size // 2
    ),
    "no database at all": lambda folder: (folder / "chroma.sqlite3").write_bytes(b"not a database" * 500),
    "vector folder lost": lambda folder: shutil.rmtree(_vector_file(folder, "header.bin").parent),
    "vectors cut short": lambda folder: os.truncate(_vector_file(folder, "data_level0.bin"), 1_000),
    "vector header scrambled": lambda folder: _vector_file(folder, "header.bin").write_bytes(b"\xff" * 100),
    "vector names cut short": lambda folder: os.truncate(_vector_file(folder, "index_metadata.pickle"), 100),
}


def _refusal(folder: Path, embedder: WordEmbedder, kind: type[Hop2RagError]) -> str:
    with pytest.raises(kind) as caught:
        check(folder, COLLECTION, embedder)
    assert type(caught.value) is kind
    text = str(caught.value)
    assert "\n" not in text
    assert "\0" not in text
    assert f"Collection '{COLLECTION}'" in text
    assert "expected" in text
    assert "found" in text
    assert caught.value.remedy
    return text


@pytest.mark.parametrize("name", USAGE)
@pytest.mark.usefixtures("probed_here")
def test_row_17_a_store_that_does_not_fit_is_a_usage_error(name: str, store_dir: Path, embedder: WordEmbedder) -> None:
    """Exit code 2: the user named another store than was meant, and only the user can say which is right."""
    fault, expected, found = USAGE[name]
    fault(store_dir)
    text = _refusal(store_dir, embedder, UsageError)
    assert expected in text
    assert found in text


@pytest.mark.parametrize("name", CORRUPT)
def test_row_17_a_damaged_store_is_a_dependency_that_is_down(
    name: str, store_dir: Path, embedder: WordEmbedder
) -> None:
    """Exit code 4, by a process that lives: on some of these Chroma takes down whatever process opens the store."""
    CORRUPT[name](store_dir)
    _refusal(store_dir, embedder, DependencyDownError)


@pytest.mark.usefixtures("probed_here")
def test_row_17_another_dimension_is_named_on_both_sides(store_dir: Path) -> None:
    """Chroma would notice at the first search, which is after the engine has loaded its model."""
    other = type("Other", (), {"name": "other", "dimension": 64})()
    text = _refusal(store_dir, other, UsageError)
    assert "dimension (other) 64, found 48" in text


def test_row_17_a_locked_store_is_reported_before_chroma_is_asked(
    store_dir: Path, embedder: WordEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chroma itself waits a minute for the lock in silence, which looks like a hang."""
    monkeypatch.setattr("workload.corpus.store.probe", lambda *_: pytest.fail("Chroma was asked"))
    script = (
        "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "db.execute('BEGIN EXCLUSIVE'); print('locked', flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", script, str(store_dir / "chroma.sqlite3")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"locked\n"
        text = _refusal(store_dir, embedder, DependencyDownError)
        assert "locked" in text
        holder.communicate()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"collection": 1}', "[" * 100_000, '"x"'])
def test_row_17_a_broken_manifest_is_refused_with_its_name(
    content: str, store_dir: Path, embedder: WordEmbedder
) -> None:
    """A manifest of half a file must not count as one, nor end in a traceback."""
    (store_dir / f"{COLLECTION}.manifest.json").write_text(content)
    with pytest.raises(UsageError, match=r"passages\.manifest\.json is not a manifest"):
        check(store_dir, COLLECTION, embedder)


PARTS = ("chroma.sqlite3", "chroma.sqlite3-wal", ".hop2rag-index.lock", f"{COLLECTION}.manifest.json", "INDEX/x.bin")


@pytest.mark.parametrize("is_link", [True, False])
@pytest.mark.parametrize("part", PARTS)
def test_row_21_nothing_in_a_store_leads_out_of_it(
    part: str,
    store_dir: Path,
    tmp_path: Path,
    embedder: WordEmbedder,
    paragraphs: tuple[Paragraph, ...],
    *,
    is_link: bool,
) -> None:
    """A store from somebody else: a link laid where we or Chroma write would empty a file of the user's own."""
    own = tmp_path / "own"
    own.write_text("precious")
    index = _vector_file(store_dir, "header.bin").parent.name
    path = store_dir / part.replace("INDEX", index)
    path.unlink(missing_ok=True)
    if is_link:
        path.symlink_to(own)
    else:
        os.mkfifo(path)
    for ask in (
        lambda: check(store_dir, COLLECTION, embedder),
        lambda: build(paragraphs, store_dir, COLLECTION, embedder, replace=True),
    ):
        with pytest.raises(UsageError):
            ask()
    assert own.read_text() == "precious"


@pytest.mark.usefixtures("probed_here")
def test_row_21_what_is_no_part_of_a_store_may_be_anything(store_dir: Path, embedder: WordEmbedder) -> None:
    """A project's folder may contain links of its own, and may itself be reached by one."""
    (store_dir / "venv").mkdir()
    (store_dir / "venv" / "python").symlink_to(sys.executable)
    (store_dir / "notes").symlink_to(store_dir)
    by_link = store_dir.with_name("by-link")
    by_link.symlink_to(store_dir)
    assert check(by_link, COLLECTION, embedder).count == check(store_dir, COLLECTION, embedder).count


def test_row_17_the_check_leaves_a_missing_folder_missing(tmp_path: Path, embedder: WordEmbedder) -> None:
    """Opening a store with Chroma creates it: a typing mistake would leave empty stores about."""
    with pytest.raises(UsageError):
        check(tmp_path / "absent", COLLECTION, embedder)
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("name", ["older schema", "newer schema"])
def test_row_17_the_check_never_upgrades_a_store(name: str, store_dir: Path, embedder: WordEmbedder) -> None:
    """Opening an older store with Chroma migrates it for good; the program that wrote it could not read it again."""
    USAGE[name][0](store_dir)
    before = (store_dir / "chroma.sqlite3").read_bytes()
    with pytest.raises(UsageError):
        check(store_dir, COLLECTION, embedder)
    assert (store_dir / "chroma.sqlite3").read_bytes() == before


@pytest.mark.parametrize("collection", ["../../etc/x", "..", "a/b", "", "nul\0", "x" * 300])
def test_row_17_hostile_collection_names_are_refused(collection: str, store_dir: Path, embedder: WordEmbedder) -> None:
    """Row 20: a name from the environment becomes a part of a path."""
    with pytest.raises(UsageError):
        check(store_dir, collection, embedder)


@pytest.mark.parametrize("folder", ["nul\0", "x" * 300, "file", "file/below"])
def test_row_17_hostile_folders_are_refused(folder: str, tmp_path: Path, embedder: WordEmbedder) -> None:
    """The operating system words each of these as another exception; the user gets one line."""
    (tmp_path / "file").touch()
    with pytest.raises((UsageError, StorageError)):
        check(tmp_path / folder, COLLECTION, embedder)

"""A store that does not fit into memory is refused before anything is loaded: the kernel would kill the run midway."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING

import psutil
import pytest

from workload.corpus.index import build
from workload.corpus.memory import RESERVE_BYTES, available_bytes, index_bytes, needed_bytes
from workload.corpus.store import check
from workload.errors import MissingPartError

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import WordEmbedder

    from workload.corpus.hotpotqa import Paragraph

pytestmark = pytest.mark.usefixtures("probed_here")

COLLECTION = "passages"


def test_too_little_memory_is_reported_before_the_index_is_read(store_dir: Path, embedder: WordEmbedder) -> None:
    """Exit code 3, with both sizes; the index here crashes any process that reads it, so it was not read."""
    os.truncate(next(store_dir.glob("*/data_level0.bin")), 100)
    needed = needed_bytes(store_dir, COLLECTION) + RESERVE_BYTES
    with pytest.raises(MissingPartError, match=r"'passages' .* expected 0\.3 GiB .* found 0\.2 GiB") as caught:
        check(store_dir, COLLECTION, embedder, lambda: needed - 2**26)
    assert caught.value.exit_code == 3
    assert caught.value.remedy


def test_a_store_that_just_fits_is_opened(store_dir: Path, embedder: WordEmbedder) -> None:
    """A check that refuses everything would pass the test above."""
    needed = needed_bytes(store_dir, COLLECTION) + RESERVE_BYTES
    assert check(store_dir, COLLECTION, embedder, lambda: needed).count == 1_200


def test_what_is_asked_for_covers_the_vector_files(store_dir: Path) -> None:
    """They are read into memory whole; a formula that forgot the links would be too small by a third."""
    files = sum(path.stat().st_size for path in store_dir.glob("*/*.bin"))
    assert needed_bytes(store_dir, COLLECTION) == index_bytes(1_200, 48) > files > 0


def test_nothing_is_embedded_for_an_index_that_will_not_fit(
    tmp_path: Path, paragraphs: tuple[Paragraph, ...], embedder: WordEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five million passages take hours to embed, and memory would run out in the last of them."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**20))
    with pytest.raises(MissingPartError, match=r"expected 0\.3 GiB .* found 0\.0 GiB"):
        build(paragraphs, tmp_path / "store", COLLECTION, embedder)
    assert embedder.encoded == 0


@pytest.mark.parametrize(
    ("limit", "expected"), [("max", 8_000), ("5000", 5_000 - 4_000 + 1_500), ("100000", 8_000), (None, 8_000)]
)
def test_a_container_may_have_less_than_its_machine(
    limit: str | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside a container psutil reports the machine's free memory, and the kernel kills at the container's limit."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=8_000))
    if limit:
        files = {"max": limit, "current": "4000", "stat": "anon 1\ninactive_file 1500"}
        for name, text in files.items():
            (tmp_path / f"memory.{name}").write_text(f"{text}\n")
    assert available_bytes(tmp_path) == expected

"""A collection in a Chroma server, the real one: indexed once, searched like a store on disk."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from workload.corpus.index import build
from workload.corpus.served import MARK_COUNT, ServedStore, build_served, served
from workload.corpus.store import Store, check
from workload.errors import DependencyDownError, UsageError
from workload.services.process import ChildProcess, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import WordEmbedder

    from workload.corpus.hotpotqa import Paragraph

pytestmark = pytest.mark.usefixtures("probed_here")

START_SECONDS = 60.0


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running server."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    command = [str(Path(sys.executable).with_name("chroma")), "run", "--path", str(folder / "data")]
    with ChildProcess([*command, "--host", "127.0.0.1", "--port", str(port)], folder / "chroma.log") as server:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/api/v2/heartbeat").raise_for_status()
                break
            except httpx.HTTPError:
                assert server.exit_code is None, server.tail()
                assert time.monotonic() < deadline, server.tail()
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"


def test_it_finds_what_a_store_on_disk_finds(
    url: str, tmp_path: Path, paragraphs: tuple[Paragraph, ...], embedder: WordEmbedder
) -> None:
    """An experiment in compose and one on a host must retrieve the same documents for the same query."""
    some = paragraphs[:300]
    assert build_served(some, url, "same", embedder) == 300
    build(some, tmp_path, "same", embedder)
    remote, on_disk = ServedStore(url, "same"), Store(check(tmp_path, "same", embedder))
    for paragraph in some[::100]:
        [vector] = embedder.encode([paragraph.text])
        ours, theirs = remote.search(vector, 10), on_disk.search(vector, 10)
        assert [each.distance for each in ours] == pytest.approx([each.distance for each in theirs], abs=1e-5)
        # A distance crosses the network in single precision.
        assert replace(ours[0], distance=0) == replace(theirs[0], distance=0)
        assert ours[0].sentences
    on_disk.close()
    remote.close()


def test_an_index_is_built_once(url: str, paragraphs: tuple[Paragraph, ...], embedder: WordEmbedder) -> None:
    """`docker compose up` on the next day must not embed everything again; an interrupted build goes on."""
    some = paragraphs[:120]
    build_served(some[:100], url, "once", embedder)
    assert embedder.encoded == 100
    build_served(some[:100], url, "once", embedder)
    assert embedder.encoded == 100

    build_served(some, url, "cut", embedder, batch_size=50)
    with served(url) as client:
        cut = client.get_collection("cut", embedding_function=None)
        cut.delete(ids=[some[0].id])
        cut.modify(metadata={name: value for name, value in (cut.metadata or {}).items() if name != MARK_COUNT})
    before = embedder.encoded
    build_served(some, url, "cut", embedder)
    assert embedder.encoded == before + 1


def test_other_content_is_never_replaced(url: str, paragraphs: tuple[Paragraph, ...], embedder: WordEmbedder) -> None:
    """A server is shared; the collection may be somebody's work of days."""
    build_served(paragraphs[:10], url, "taken", embedder)
    with pytest.raises(UsageError, match=r"'taken'.*other content.*--collection"):
        build_served(paragraphs[:20], url, "taken", embedder)
    with served(url) as client:
        assert client.get_collection("taken", embedding_function=None).count() == 10


def test_a_server_that_is_away_is_one_line(paragraphs: tuple[Paragraph, ...], embedder: WordEmbedder) -> None:
    """It is a dependency, and its failure is reported as one."""
    url = f"http://127.0.0.1:{free_port()}"
    for attempt in (lambda: build_served(paragraphs[:1], url, "away", embedder), lambda: ServedStore(url, "away")):
        with pytest.raises(DependencyDownError) as failed:
            attempt()
        assert url in str(failed.value)
        assert "\n" not in str(failed.value)

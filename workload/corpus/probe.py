"""Opens a collection in a child process, because Chroma's vector index crashes on some damaged files."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workload.corpus.chroma import MARK_CONTENT, RESTORE, open_client, open_collection, unusable
from workload.errors import DependencyDownError
from workload.services.child_environment import PYTHON, child_environment

# How Chroma's hnswlib begins its header: version, offset, room, vectors, and the bytes of each in data_level0.bin.
HNSW_HEADER = struct.Struct("<iQQQQ")
HNSW_VERSION = 1
PROBE_TIMEOUT_SECONDS = 600.0  # a store of millions of passages is gigabytes to load


@dataclass(frozen=True)
class Probed:
    """Facts of a collection; `dimension` is None if it is empty, `mark` is None if it is not ours."""

    count: int
    dimension: int | None
    has_texts: bool
    space: str
    mark: str | None


def probe(persist_dir: Path, collection: str) -> Probed:
    """Read the collection's facts and search it once, in a child process (about a second for a small store).

    It searches for the first record's own vector, because a lost vector file loses the oldest records. Newer ones are
    replayed from SQLite, so another search could succeed on a damaged store.

    Raises:
        DependencyDownError: Chroma refuses the store, crashes on it or hangs.
        StorageError: its files cannot be read.
    """
    argv = (sys.executable, "-m", "workload.corpus.probe", str(persist_dir), collection)
    environ = {**child_environment(PYTHON), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            argv, env=environ, capture_output=True, check=False, text=True, timeout=PROBE_TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise unusable(persist_dir, collection, f"no answer in {PROBE_TIMEOUT_SECONDS:.0f} s") from error
    lines = done.stdout.splitlines()
    if done.returncode != 0 or not lines:
        crash = f"a vector index on which Chroma crashes (exit status {done.returncode})"
        raise DependencyDownError(
            f"Collection {collection!r} in {str(persist_dir)!r}: expected a usable store, found {crash}.", RESTORE
        )
    answer = json.loads(lines[-1])
    if "failure" in answer:
        raise unusable(persist_dir, collection, answer["failure"])
    return Probed(**answer)


def examine(persist_dir: Path, collection: str) -> Probed:
    """Return the facts of a collection, opened in this process."""
    _require_whole(persist_dir)
    with closing(open_client(persist_dir)) as client:
        found = open_collection(client, collection)
        index = found.configuration_json.get("hnsw") or {}
        sample: Any = found.get(limit=1, include=["documents", "embeddings"])
        if sample["ids"]:
            nearest: Any = found.query(query_embeddings=[sample["embeddings"][0]], n_results=1, include=["distances"])
            if not nearest["ids"][0]:
                raise LookupError("a stored vector cannot be found")
        return Probed(
            count=found.count(),
            dimension=len(sample["embeddings"][0]) if sample["ids"] else None,
            has_texts=bool(sample["ids"] and sample["documents"][0]),
            space=str(index.get("space", "l2")),
            mark=(found.metadata or {}).get(MARK_CONTENT),
        )


def _require_whole(persist_dir: Path) -> None:
    """Refuse a file of vectors that is shorter than its header says.

    Chroma would read past its end: usually it fails or crashes, but sometimes it returns results.
    """
    for header in persist_dir.glob("*/header.bin"):
        begin = header.read_bytes()[: HNSW_HEADER.size]
        if len(begin) < HNSW_HEADER.size:
            raise LookupError("the header of the vector index was cut short")
        version, _, _, count, size = HNSW_HEADER.unpack(begin)
        if version == HNSW_VERSION and header.with_name("data_level0.bin").stat().st_size < count * size:
            raise LookupError("the vectors were cut short")


def main() -> int:
    """Print the facts of the named collection, or the failure, as one line of JSON."""
    try:
        answer = asdict(examine(Path(sys.argv[1]), sys.argv[2]))
    except Exception as error:  # noqa: BLE001 - reported to the parent, which classifies it
        answer = {"failure": str(error) or type(error).__name__}
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Measure what indexing a corpus in Chroma takes, and what a store of it takes to search: time, disk, memory.

Usage: python benchmarks/corpus.py [--passages 20000] [--to 5000000] [--threads 1]

The passages are synthetic; all-MiniLM-L6-v2 embeds them on this machine's CPU. The last column is worked out, not
measured: bytes and the time to embed grow with the number of passages n, inserting into the HNSW graph with n log n.
What does not grow is multiplied too, so it is an upper estimate; two sizes tell what a further passage takes.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from machine import describe

from workload.corpus.embedding import MiniLmEmbedder
from workload.corpus.index import build
from workload.corpus.memory import needed_bytes
from workload.corpus.store import Store, check
from workload.corpus.synthetic import build_world

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

COLLECTION = "measured"
SEARCHES, K = 200, 10
MIB = 2**20


class TimedEmbedder(MiniLmEmbedder):
    """Knows how long it has embedded; loading the model is not part of it."""

    def __init__(self, threads: int | None) -> None:
        super().__init__()
        self.load()
        if threads:
            torch.set_num_threads(threads)
        self.seconds = 0.0

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed, and note the time it took."""
        start = time.perf_counter()
        vectors = super().encode(texts)
        self.seconds += time.perf_counter() - start
        return vectors


def index(passages: int, folder: Path, threads: int | None) -> dict[str, Any]:
    """Index a synthetic corpus and return what it took; seconds and bytes."""
    paragraphs = build_world(passages, 0).paragraphs
    embedder = TimedEmbedder(threads)
    before = psutil.Process().memory_info().rss
    start = time.perf_counter()
    manifest = build(paragraphs, folder, COLLECTION, embedder)
    seconds = time.perf_counter() - start
    files = {path.name: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    return {
        "passages": manifest.count,
        "embed_seconds": embedder.seconds,
        "insert_seconds": seconds - embedder.seconds,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before,
        "texts_bytes": files["chroma.sqlite3"],
        "vectors_bytes": sum(size for name, size in files.items() if name.endswith((".bin", ".pickle"))),
    }


def search(folder: Path) -> dict[str, float]:
    """Open a store and search it; return the memory of its index in bytes, and times in seconds."""
    embedder = MiniLmEmbedder()
    texts = [paragraph.text for paragraph in build_world(SEARCHES, 1).paragraphs[:SEARCHES]]
    vectors = embedder.encode(texts)
    store = Store(check(folder, COLLECTION, embedder))
    before = psutil.Process().memory_info().rss
    times = []
    for vector in vectors:
        start = time.perf_counter()
        store.search(vector, K)
        times.append(time.perf_counter() - start)
    return {
        "index_bytes": psutil.Process().memory_info().rss - before,
        "first_seconds": times[0],
        "median_seconds": statistics.median(times[1:]),
    }


def show(found: dict[str, Any], to: int) -> None:
    """Print the table."""
    n = found["passages"]
    linear = to / n
    graph = linear * math.log(to) / math.log(n)
    rows = [
        ("embedding (all-MiniLM-L6-v2)", "embed_seconds", linear),
        ("inserting (HNSW, texts, full-text index)", "insert_seconds", graph),
        ("disk: texts and their indexes (chroma.sqlite3)", "texts_bytes", linear),
        ("disk: vectors and graph", "vectors_bytes", linear),
        ("memory at the most while indexing", "peak_bytes", linear),
        ("memory of the index once it is searched", "index_bytes", linear),
        ("memory asked for before a store is opened", "needed_bytes", linear),
    ]
    print(f"{'':<48}{f'{n:,} passages':>18}{'a passage':>14}{f'{to:,}':>14}")
    for title, name, factor in rows:
        value = found[name]
        if name.endswith("seconds"):
            cells = f"{value:,.1f} s", f"{value / n * 1e3:.2f} ms", f"{value * factor / 3600:.1f} h"
        else:
            cells = f"{value / MIB:,.1f} MiB", f"{value / n:,.0f} B", f"{value * factor / 2**30:.1f} GiB"
        print(f"{title:<48}{cells[0]:>18}{cells[1]:>14}{cells[2]:>14}")
    first, median = found["first_seconds"], found["median_seconds"]
    print(
        f"first search, the index is read: {first:.2f} s; then {median * 1e3:.2f} ms, median of {SEARCHES - 1}, k = {K}"
    )


def main() -> int:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--passages", type=int, default=20_000)
    parser.add_argument("--to", type=int, default=5_000_000, help="passages to work the last column out for")
    parser.add_argument("--threads", type=int, help="CPU threads of the embedder (default: one a core)")
    parser.add_argument("--search", type=Path, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.search:
        print(json.dumps(search(flags.search)))
        return 0
    print(
        describe("chromadb", "sentence-transformers", "torch"),
        f"embedder's threads: {flags.threads or 'all'}",
        sep="\n",
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "store"
        found = index(flags.passages, folder, flags.threads)
        # In a process of its own: this one's memory was shaped by the indexing.
        argv = [sys.executable, __file__, "--search", str(folder)]
        found |= json.loads(subprocess.run(argv, capture_output=True, check=True, text=True).stdout.splitlines()[-1])
        found["needed_bytes"] = needed_bytes(folder, COLLECTION)
    show(found, flags.to)
    return 0


if __name__ == "__main__":
    sys.exit(main())

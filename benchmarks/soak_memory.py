"""Does the runner of a soak grow with the number of questions? Bar: at most 5 MiB from question 1,000 to the last.

Usage: python benchmarks/soak_memory.py [--questions 10000] [--from 1000] [--concurrency 8]

A soak of the stub engine (tests/stubs/vllm.py), which runs in a process of its own and remembers nothing; everything of
ours is real, journal and webhook included, only retrieval is a stub. Resident memory is what the soak itself notes with
each checkpoint. A stub answers within milliseconds, so this is hours of a real engine; its time says nothing. Exit code
1 if the bar is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import signal
import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from machine import describe
from prometheus_client import disable_created_metrics

from tests.stubs.agent import StubEmbedder
from tests.stubs.soak import soak
from tests.stubs.vllm import StubVllm

BAR_MIB = 5.0
MIB = 2**20


class Forgetful(list[Any]):
    """A list that stays empty: the stub keeps its requests for tests that look at them."""

    def append(self, _: Any) -> None:
        """Forget it."""


class Embedder(StubEmbedder):
    """Remembers nothing either."""

    def encode(self, texts: Any) -> Any:
        """Encode, and forget what."""
        vectors = super().encode(texts)
        self.texts.clear()
        return vectors


def serve(pipe: Any) -> None:
    """Run the stub engine until it is terminated, and tell where it is."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with StubVllm(caching=False) as server, contextlib.suppress(EOFError):
        server.requests = Forgetful()
        pipe.send(server.url)
        pipe.recv()


def resident(journal: Path, first: int) -> tuple[float, float, int]:
    """Return resident MiB at question `first` and at the end, and the number of questions answered."""
    with contextlib.closing(sqlite3.connect(journal)) as connection:
        ends = np.sort(
            [
                row[0]
                for row in connection.execute("SELECT started_at + duration_seconds FROM question WHERE outcome = 'ok'")
            ]
        )
        samples = np.array(connection.execute("SELECT at, runner_bytes FROM sample ORDER BY at").fetchall())
    at = samples[np.searchsorted(samples[:, 0], ends[first - 1])]
    return float(at[1]) / MIB, float(samples[-1, 1]) / MIB, len(ends)


def main() -> int:
    """Run, print, and return 1 if the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=10_000)
    parser.add_argument(
        "--from", type=int, default=1000, dest="first", help="the question at which growth begins to count"
    )
    parser.add_argument("--concurrency", type=int, default=8)
    options = parser.parse_args()
    disable_created_metrics()  # type: ignore[no-untyped-call]
    print(describe("hop2rag-observatory"), flush=True)
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    engine = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,))
    engine.start()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-memory-") as folder:
        flags = {"duration": "6h", "questions": options.questions, "concurrency": options.concurrency, "segment": "1m"}
        finished = soak(ours.recv(), Path(folder), flags, corpus=200, embedder=Embedder())
        before, after, answered = resident(finished.bundle / "journal.sqlite", options.first)
        size = (finished.bundle / "journal.sqlite").stat().st_size / MIB
    ours.send("stop")
    engine.join()
    print(f"{answered} questions answered in {time.monotonic() - began:.0f} s; the journal has {size:.1f} MiB")
    print(f"resident memory of the runner: {before:.1f} MiB after question {options.first}, {after:.1f} MiB at the end")
    print(f"growth {after - before:+.1f} MiB (bar: {BAR_MIB:g} MiB)")
    return int(after - before > BAR_MIB or answered != options.questions)


if __name__ == "__main__":
    raise SystemExit(main())

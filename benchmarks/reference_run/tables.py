"""Print two tables of recorded runs as Markdown: hits against their bound, and decoding against memory bandwidth.

Usage: python tables.py RESULTS_DIR [--floor 339]        (what `hop2rag run --results` was given)

Hits: a row for each load of an arm with prefix caching on; "equal" counts calls that hit exactly what the bound
predicts. Where several calls are in prefill at once, the engine's order is not the order of sending.
Decoding: tokens per second of one stream, the median over calls of (tokens - 1) / (time after the first token).
`--floor` is the rate at which the GPU could read the weights once per token: bandwidth / bytes of weights.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from workload.analysis.cache import hit_rates
from workload.analysis.cache_inferred import settle
from workload.record.results import Measured, RunData, read_run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MIN_TOKENS = 16
"""A rate over fewer tokens is mostly noise of their arrival."""

Load = tuple[str, str, str, RunData]


def loads(run: Path) -> Iterator[Load]:
    """Yield experiment and layout, arm, point, and the data of each load of a run."""
    manifest = json.loads((run / "manifest.json").read_text())
    measured = [Measured.from_manifest(row) for row in manifest.get("measured", ())]
    if not measured or not (run / "journal.sqlite").exists():
        return
    data = settle(read_run(run / "journal.sqlite", measured))
    name = f"{manifest['experiment']}, {manifest['settings']['layout']}"
    for point in data.points:
        here = data.at(point)
        for arm in dict.fromkeys(part.window.arm for part in here.measured):
            yield name, arm, point, here


def hits(found: Sequence[Load]) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the hits; the causes of all calls that differ are printed last."""
    causes: Counter[str] = Counter()
    conditions = 0
    for name, arm, point, data in found:
        told = hit_rates(data, arm)
        hit, bound = (told[witness]["hit_rate"] for witness in ("responses", "bound"))
        if hit is None or bound is None:
            continue
        conditions += 1
        causes.update(difference["cause"] for difference in told["differences"])
        block = next(part.engine["block_size"] for part in data.measured if part.window.arm == arm)
        yield (
            *(name, arm, point, str(block), str(told["calls"]), f"{told['prompt_tokens']:,.0f}"),
            *(f"{hit:.2%}", f"{bound:.2%}", f"{100 * (hit - bound):+.3f}"),
            f"{told['calls_equal_to_bound'] / told['calls']:.2%}",
        )
    yield (f"{conditions} conditions; calls that differ, by cause: {dict(causes) or 'none'}", *[""] * 9)


def decoding(found: Sequence[Load], floor: float | None) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the decoding rates."""
    for name, arm, point, data in found:
        rates = [
            (call["completion_tokens"] - 1) / (call["duration_seconds"] - call["ttft_seconds"])
            for call in data.calls_of(arm)
            if call["ttft_seconds"] is not None and call["completion_tokens"] >= MIN_TOKENS
        ]
        if rates:
            rate = median(rates)
            yield name, arm, point, str(len(rates)), f"{rate:.1f}", f"{rate / floor:.1%}" if floor else ""


def show(header: Sequence[str], rows: Iterator[tuple[str, ...]]) -> None:
    """Print a table."""
    for row in (header, ["---"] * len(header), *rows):
        print("| " + " | ".join(row) + " |")
    print()


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=Path)
    parser.add_argument("--floor", type=float, help="tokens per second that memory bandwidth allows one stream")
    arguments = parser.parse_args()
    found = [load for run in sorted((arguments.results / "runs").iterdir()) for load in loads(run)]
    columns = ("run", "arm", "load", "block", "calls", "prompt tokens", "measured", "bound", "points", "equal")
    show(columns, hits(found))
    show(("run", "arm", "load", "calls", "tokens/s per stream", "of the limit"), decoding(found, arguments.floor))


if __name__ == "__main__":
    main()

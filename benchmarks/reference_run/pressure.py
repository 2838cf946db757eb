"""Print what KV pools of several sizes did to a load, as Markdown, from the journals of the runs.

Usage: python pressure.py FOLDER [--picture FILE.png]      (a recording, or what `hop2rag ab --results` was given)

Every figure comes from the journal and the manifest of a run. "bound" is the hit rate of a cache that never evicts;
"model" that of a pool of this size which evicts the least recently used block first (`workload.theory.eviction`), for
the same calls at the same times; "curve" the same for the calls of the first arm, so it predicts a pool from a run on
another one. Fates are shares of the prompt tokens, by the ledger. Intervals are of 95 %: of the mean of computed tokens
by Student's t, of medians by order statistics; changes are medians of paired changes against the first arm.
"""

from __future__ import annotations

import argparse
import json
import lzma
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import StrMethodFormatter

from workload.analysis.ab import end_to_end, time_to_first_token, uncached_tokens
from workload.analysis.token_fates import token_fates
from workload.charts.canvas import MARKERS, legend, name, save, sheet
from workload.kv_cache.recorded import read_calls
from workload.kv_cache.reuse_bounds import in_pool
from workload.panels.colours import COLOURS
from workload.record.results import Measured, RunData, read_run, total
from workload.statistics.paired import compare, mean_ci, median, median_ci

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from workload.kv_cache.source import SentCall
    from workload.statistics.paired import Interval

    Read = tuple[RunData, Mapping[str, Sequence[SentCall]]]

PREEMPTIONS = "vllm:num_preemptions_total"
POINTS = 20
ORIGIN = "model with random weights, which replays recorded texts: tokens and times are real, the text is not"
FATES = ("cold", "tail", "evicted", "reset", "flight", "behind", "unknown")
HEADER = (
    *("run", "in flight", "arm", "blocks", "GiB", "questions", "calls", "hits", "model", "curve", "bound", *FATES),
    *("preemptions", "computed tokens a question", "a question, s", "change", "first token, s"),
)


def read(run: Path) -> Read | None:
    """Return the data and the calls by arm of a comparison of arms; None of any other run. A journal may be packed."""
    manifest = json.loads((run / "manifest.json").read_text())
    measured = [Measured.from_manifest(row) for row in manifest.get("measured", ())]
    journal, packed = run / "journal.sqlite", run / "journal.sqlite.xz"
    if manifest["experiment"] != "ab" or not measured:
        return None
    if journal.exists():
        return read_run(journal, measured), read_calls(journal)
    with tempfile.TemporaryDirectory() as folder:
        unpacked = Path(folder) / journal.name
        unpacked.write_bytes(lzma.decompress(packed.read_bytes()))
        return read_run(unpacked, measured), read_calls(unpacked)


def rows(run: str, data: RunData, sent: Mapping[str, Sequence[SentCall]]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each arm, in the order of measurement."""
    arms = list(dict.fromkeys(part.window.arm for part in data.measured))
    for arm in arms:
        part = next(part for part in data.measured if part.window.arm == arm)
        blocks, size, bytes_of_one = (part.engine[fact] for fact in ("num_gpu_blocks", "block_size", "kv_block_bytes"))
        calls, times = data.calls_of(arm), data.by_question(arm, end_to_end)
        change = compare(data.by_question(arms[0], end_to_end), times)
        computed, first = (_array(data.by_question(arm, value)) for value in (uncached_tokens, time_to_first_token))
        prompt, hit, bound = (total(calls, f"{column}_tokens") for column in ("prompt", "cached", "reusable"))
        fates, counted = token_fates(calls), data.counter(arm, PREEMPTIONS)
        yield (
            *(run, part.window.point.removeprefix("c"), arm, f"{blocks:,}"),
            *(f"{blocks * bytes_of_one / 2**30:.2f}" if bytes_of_one else "-", str(len(times)), str(len(calls))),
            *(share(hit, prompt), *(share(in_pool(sent[of], size, blocks)[0], 1) for of in (arm, arms[0]))),
            share(bound, prompt),
            *(share(fates["tokens"][fate], sum(fates["tokens"].values())) if fates else "-" for fate in FATES),
            "-" if counted is None else f"{counted:.0f}",
            f"{computed.mean():,.0f}{between(mean_ci(computed), ',.0f')}",
            f"{median(_array(times)):.2f}{between(median_ci(_array(times)), '.2f')}",
            "" if arm == arms[0] else f"{change['change']:+.1%}{between(change['change_ci'], '+.1%')}",
            f"{median(first):.3f}{between(median_ci(first), '.3f')}",
        )


def draw(found: Sequence[Read], label: str, path: Path) -> None:
    """Draw the hit rate against the pool: as measured, and the curve of the first arm's calls."""
    canvas, (axes,) = sheet("A prefix cache serves what its pool still holds", label, (3.2,))
    for number, (data, sent) in enumerate(found):
        arms = list(dict.fromkeys(part.window.arm for part in data.measured))
        engines = {part.window.arm: part.engine for part in data.measured}
        pools = {arm: engines[arm]["num_gpu_blocks"] * engines[arm]["block_size"] for arm in arms}
        size, first = engines[arms[0]]["block_size"], sent[arms[0]]
        sizes = np.geomspace(min(pools.values()), 2 * max(pools.values()), POINTS)
        curve = [in_pool(first, size, int(tokens) // size)[0] for tokens in sizes]
        color, text = COLOURS[number], f"{data.points[0].removeprefix('c')} questions in flight"
        axes.plot(sizes, [np.nan if at is None else 100 * at for at in curve], color=color, label=f"{text}: curve")
        for arm in arms:
            calls, has_host = data.calls_of(arm), "host" in arm
            hit, prompt = (total(calls, f"{column}_tokens") for column in ("cached", "prompt"))
            if hit is not None and prompt:
                face = "white" if has_host else color
                axes.plot(pools[arm], 100 * hit / prompt, MARKERS[number], color=color, markerfacecolor=face)
        if (bound := in_pool(first, size, None)[0]) is not None:
            axes.axhline(100 * bound, color=color, linewidth=0.8, linestyle="--")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    title = "Marks: measured (hollow: host memory behind). Line: predicted from the largest pool. Dashes: bound."
    name(axes, title, "tokens that the KV pool holds", "hits, % of prompt tokens")
    legend(axes, "lower right")
    save(canvas, path)


def share(part: float | None, whole: float | None) -> str:
    """Return a share in percent, "-" if it is not known."""
    return "-" if part is None or not whole else f"{part / whole:.1%}"


def between(bounds: Interval | None, form: str) -> str:
    """Return an interval in brackets, or nothing."""
    return f" [{bounds[0]:{form}}, {bounds[1]:{form}}]" if bounds else ""


def _array(values: Mapping[str, float]) -> NDArray[np.float64]:
    return np.array(list(values.values()))


def main() -> None:
    """Print the table of all comparisons."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--picture", type=Path, help="draw the runs with several pools there")
    arguments = parser.parse_args()
    runs = sorted((arguments.folder / "runs").iterdir())
    found = {run.name: kept for run in runs if (kept := read(run))}
    for row in (HEADER, ("---",) * len(HEADER), *(row for run, kept in found.items() for row in rows(run, *kept))):
        print("| " + " | ".join(row) + " |")
    if arguments.picture:
        several = [
            kept for kept in found.values() if len({part.engine["num_gpu_blocks"] for part in kept[0].measured}) > 1
        ]
        manifest = json.loads((arguments.folder / "manifest.json").read_text())
        draw(several, f"{manifest['label']}; {ORIGIN}", arguments.picture)


if __name__ == "__main__":
    main()

"""Recompute the published results of a recording: figures, JSON and reports, and throughput by both estimators.

Usage: python publish.py [--recording FOLDER] [--published FOLDER]

Every number comes from the recording: its journals and its series, which a Prometheus of its own serves. A file is
replaced where it is published already; what the recording lacks is left unchanged, and listed at the end.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workload.demo.figures import draw_run
from workload.demo.recording import find_recordings
from workload.demo.server import serve
from workload.paths import asset, cache_dir
from workload.services.process import free_port
from workload.services.prometheus_binary import find_prometheus

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

RECORDING = asset("tests/fixtures/reference-run/h200")


def published_as(settings: Mapping[str, Any], experiment: str) -> str:
    """Return the name of a run's report: the run that wrote the texts of all others is none of the experiments."""
    return experiment if settings["replay"] else "texts"


def rates(summary: Mapping[str, Any]) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yield arm, concurrency and answers a second of each closed loop of a summary, old or new."""
    levels = summary.get("levels", ())
    if isinstance(levels, dict):
        for point, level in levels.items():
            yield from ((arm, int(point[1:]), rate) for arm, rate in level["throughput"].items())
    else:
        yield from ((row["arm"], row["concurrency"], row["throughput"]) for row in levels if row["loop"] == "closed")


def compared(old: Mapping[str, Any], new: Mapping[str, Any], run: str) -> Iterator[str]:
    """Yield a row for each level: what was published, what is now, and what the whole run answered."""
    before = {(arm, at): rate["per_second"] for arm, at, rate in rates(old)}
    for arm, at, rate in rates(new):
        then, low, high = before[arm, at], *(rate["ci"] or (None, None))
        interval = f"[{low:.2f}, {high:.2f}]" if rate["ci"] else "no CI"
        yield (
            f"| {run} | {arm} | {at} | {then:.2f} | {rate['per_second']:.2f} {interval} | {rate['over_whole_run']:.2f} "
            f"| {then / rate['per_second'] - 1:+.0%} |"
        )


def main() -> None:
    """Work out, copy and compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--recording", type=Path, default=RECORDING)
    parser.add_argument("--published", type=Path, default=RECORDING.parents[3] / "docs" / "results" / "h200")
    arguments = parser.parse_args()
    (recording,) = find_recordings(arguments.recording)
    rows: list[str] = []
    written: set[Path] = set()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        with serve([recording], find_prometheus(cache_dir()), work / "prometheus", free_port()) as client:
            for run in recording.runs:
                experiment, finished = draw_run(recording, run, client, work / "results")
                settings = json.loads((finished.bundle / "manifest.json").read_text())["settings"]
                report = published_as(settings, experiment.name)
                targets = {finished.bundle / "report.html": arguments.published / "reports" / f"{report}.html"}
                if report == experiment.name:
                    drawn = work / "results" / run / "hop2rag" / experiment.folder
                    folder = arguments.published / "figures" / experiment.folder
                    targets |= {path: folder / path.name for path in drawn.iterdir()}
                for source, target in targets.items():
                    if target.exists():
                        shutil.copyfile(source, target)
                        written.add(target)
                kept = json.loads((recording.folder / "runs" / run / "summary.json").read_text())
                rows += compared(kept, finished.summary, report)
    print("| run | arm | concurrency | published | now [95 %] | over the whole run | published over now |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(rows))
    left = sorted({path for path in arguments.published.rglob("*.*") if path.suffix != ".md"} - written)
    print(
        "\nNot in the recording:", ", ".join(str(path.relative_to(arguments.published)) for path in left) or "nothing"
    )


if __name__ == "__main__":
    main()

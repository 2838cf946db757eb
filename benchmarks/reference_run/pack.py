"""Pack what was recorded: the series of the runs as OpenMetrics, journals, manifests, raw samples and expositions.

Usage: python pack.py --promtool FILE --data FOLDER --results FOLDER --out FOLDER

The folder written is what `hop2rag demo` loads; see README.md. Paths of the host are cut to their last part. Packing
again replaces it, so it can be done after every stage of a recording that may run out of time.
"""

from __future__ import annotations

import argparse
import json
import lzma
import math
import os
import platform
import re
import shutil
import sqlite3
import subprocess
import tempfile
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from exporter.gpu.nvml import NvmlReader
from exporter.gpu.readings import GpuError
from workload.record.integrity import keep_checksums

if TYPE_CHECKING:
    from collections.abc import Iterator

SERIES = re.compile(r'^\{__name__="([^"]+)"(?:, )?(.*)\} (\S+) (-?\d+)$')
BETWEEN_LABELS = re.compile(r'(?<!\\)", (?=[a-zA-Z_]\w*=")')
UNUSED = re.compile(r"^(python_|process_|http_|scrape_|ALERTS|exporter_raw_log)|_created$")
"""Series that no query, rule, alert or dashboard of this project reads."""

HOST_PATH = re.compile(r"(?<![\w:/])(?:/[\w.@+-]+)+/([\w.@+-]+)")
EOF = "# EOF\n"
CPU_LABEL = "recorded on a CPU engine, no GPU"


def openmetrics(dump: Iterator[str]) -> Iterator[str]:
    """Yield the lines of `promtool tsdb dump` as OpenMetrics, seconds for milliseconds.

    A staleness marker is a NaN that OpenMetrics cannot tell from another; both are left out, so a series goes on for
    five minutes after its end when it is queried there.
    """
    for line in dump:
        if not (match := SERIES.match(line.rstrip("\n"))):
            continue  # a label value with a line break: none of ours has one
        name, labels, value, at_ms = match.groups()
        if value != "NaN" and not UNUSED.search(name):
            packed = BETWEEN_LABELS.sub('",', labels)  # OpenMetrics allows no blank there
            yield f"{name}{{{packed}}} {value} {int(at_ms) / 1000:.3f}\n"
    yield EOF


def pack_series(promtool: Path, data: Path, runs: list[str], out: Path) -> tuple[float, float]:
    """Write the stored series of these runs; return the times of their first and last sample in seconds."""
    first, last = math.inf, -math.inf
    argv: list[str | Path] = [promtool, "tsdb", "dump", f'--match={{run=~"{"|".join(runs)}"}}', data]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as dump, lzma.open(out, "wt") as stream:
        assert dump.stdout
        for line in openmetrics(iter(dump.stdout)):
            stream.write(line)
            if line != EOF:
                at = float(line.rpartition(" ")[2])
                first, last = min(first, at), max(last, at)
    assert dump.returncode == 0, "promtool could not read the data"
    return first, last


def without_paths(value: Any) -> Any:
    """Return a manifest's value with the host's paths cut to their last part."""
    if isinstance(value, dict):
        return {key: without_paths(part) for key, part in value.items()}
    if isinstance(value, list):
        return [without_paths(part) for part in value]
    return HOST_PATH.sub(r"\1", value) if isinstance(value, str) else value


def pack_run(run: Path, out: Path) -> dict[str, Any]:
    """Copy a run's manifest, summary, journal and raw samples; return what the recording's manifest says of it."""
    out.mkdir(parents=True)
    manifest = without_paths(json.loads((run / "manifest.json").read_text()))
    manifest.pop("why", None)
    (out / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    if (summary := run / "summary.json").exists():
        (out / "summary.json").write_text(json.dumps(without_paths(json.loads(summary.read_text())), indent=2) + "\n")
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / "journal.sqlite"
        with sqlite3.connect(run / "journal.sqlite") as journal:
            journal.execute("VACUUM INTO ?", (str(copy),))
        journal.close()
        name_no_path(copy)
        pack_file(copy, out / "journal.sqlite.xz")
    for samples in sorted((run / "nvml").glob("nvml_*.csv")):
        pack_file(samples, out / "nvml" / f"{samples.name}.xz")
    settings = manifest["settings"]
    return {
        "experiment": manifest["experiment"],
        "status": manifest["status"],
        "windows": len(manifest.get("measured", ())),
        "replay_of": settings["replay"],
        "concurrency": settings["concurrency"],
        "questions": settings["limit"],
        "max_hops": settings["max_hops"],
    }


def name_no_path(journal: Path) -> None:
    """Cut the paths in a journal's configuration to their last part; the row gets its checksum anew."""
    with sqlite3.connect(journal) as connection:
        keep_checksums(connection)
        (config,) = connection.execute("SELECT value FROM meta WHERE key = 'config'").fetchone()
        cut = json.dumps(without_paths(json.loads(config)), sort_keys=True)
        connection.execute("UPDATE meta SET value = ? WHERE key = 'config'", (cut,))
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()


def pack_file(source: Path, target: Path) -> None:
    """Write a file packed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as plain, lzma.open(target, "wb") as packed:
        shutil.copyfileobj(plain, packed)


def describe_host() -> dict[str, Any]:
    """Return processor, memory, kernel, GPUs and versions of this host."""
    cpuinfo = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    models = [line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")]
    try:
        gpus = [f"{gpu.info.name}, driver {gpu.info.driver}" for gpu in NvmlReader().open()]
    except GpuError:
        gpus = []
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": platform.release().partition("-")[0],
        "gpus": gpus,
        "python": platform.python_version(),
        "torch": version_or_none("torch"),
        "hop2rag": version_or_none("hop2rag-observatory"),
    }


def version_or_none(distribution: str) -> str | None:
    """Return a distribution's version, None where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def label_of(host: dict[str, Any]) -> str:
    """Return what every picture of the recording says about its origin."""
    return f"recorded on one {host['gpus'][0].partition(',')[0]}" if host["gpus"] else CPU_LABEL


def pack(arguments: argparse.Namespace) -> None:
    """Write the whole folder, then put it in the place of an earlier one."""
    draft = arguments.out.with_name(f"{arguments.out.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    found = sorted((arguments.results / "runs").iterdir())
    runs = [run for run in found if run.name != arguments.leave_out and (run / "journal.sqlite").exists()]
    host = describe_host()
    first, last = pack_series(arguments.promtool, arguments.data, [run.name for run in runs], draft / "series.om.xz")
    manifest = {
        "label": label_of(host),
        "start": first,
        "end": last,
        "packed": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": host,
        "runs": {run.name: pack_run(run, draft / "runs" / run.name) for run in runs},
        "commands": without_paths(arguments.commands.read_text().splitlines()) if arguments.commands else [],
    }
    (draft / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    for page in sorted(arguments.expositions.glob("*.prom")) if arguments.expositions else ():
        pack_file(page, draft / "expositions" / f"{page.name}.xz")
    if arguments.tables:
        shutil.copytree(arguments.tables, draft / "tables")
    shutil.rmtree(arguments.out, ignore_errors=True)
    draft.rename(arguments.out)


def main() -> None:
    """Take the flags."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--promtool", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="Prometheus's storage")
    parser.add_argument("--results", type=Path, required=True, help="what `hop2rag run --results` was given")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--expositions", type=Path, help="a folder of /metrics pages")
    parser.add_argument("--tables", type=Path, help="a folder of what the benchmarks printed")
    parser.add_argument("--leave-out", help="a run that another recording has")
    parser.add_argument("--commands", type=Path, help="a file with the commands of the recording")
    pack(parser.parse_args())


if __name__ == "__main__":
    main()

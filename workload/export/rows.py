"""Writes a run's questions and calls as JSON lines or CSV, one row each, for any other tool."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any, Literal

from workload.analysis.serving import e2e, mean_itl, tpot
from workload.files import atomic_file
from workload.files.csv_cells import cell

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from workload.record.results import Row, RunData

Format = Literal["jsonl", "csv"]
BINARY = frozenset({"block_hashes", "token_gaps", "fates"})


def write_rows(data: RunData, folder: Path, kind: Format) -> list[Path]:
    """Write `questions` and `calls` into a folder and return their paths.

    Raises:
        StorageError: they cannot be written.
    """
    tables = {"questions": list(data.questions), "calls": [call_row(call) for call in data.calls]}
    atomic_file.make_folder(folder)
    write = {"jsonl": _jsonl, "csv": _csv}[kind]
    return [atomic_file.write(folder / f"{name}.{kind}", write(rows)) for name, rows in tables.items()]


def call_row(call: Row) -> dict[str, Any]:
    """Return a call's columns of the journal, its latencies in seconds, and its tokens by fate; None where unknown."""
    latencies = {"itl_seconds": mean_itl(call), "tpot_seconds": tpot(call), "e2e_seconds": e2e(call)}
    return {
        **{name: value for name, value in call.items() if name not in BINARY},
        **{name: found[0] if found else None for name, found in latencies.items()},
        **{f"fate_{name}": value for name, value in (call["fates"] or {}).items() if name != "call"},
    }


def _jsonl(rows: Sequence[Row]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer.writerow(columns)
    writer.writerows([cell(row.get(name)) for name in columns] for row in rows)
    return text.getvalue()

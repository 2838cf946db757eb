"""What a recording is: a folder with the series of recorded runs, what the runs left, and where that was."""

from __future__ import annotations

import json
import lzma
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workload.bundle import MANIFEST
from workload.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

SERIES = "series.om.xz"
PACKED = ".xz"


@dataclass(frozen=True)
class Recording:
    """A folder as `benchmarks/reference_run` writes it.

    Attributes:
        folder: where it lies.
        label: on what it was recorded, in words that every picture of it repeats.
        start, end: time of the first and last sample, in seconds since the epoch.
        runs: names of the runs that have at least one closed window, in order of time.
    """

    folder: Path
    label: str
    start: float
    end: float
    runs: tuple[str, ...] = ()


def find_recordings(folder: Path) -> list[Recording]:
    """Return the recordings in a folder, or the one that the folder is.

    Raises:
        UsageError: there is none, or its manifest cannot be used.
    """
    manifests = sorted({*folder.glob(MANIFEST), *folder.glob(f"*/{MANIFEST}")})
    if not manifests:
        raise UsageError(f"There is no recording in {folder}.", "Give the folder of one, with its manifest.json.")
    return [_read(path) for path in manifests]


def _read(path: Path) -> Recording:
    try:
        told = json.loads(path.read_text())
        runs = tuple(sorted(name for name, run in told["runs"].items() if run["windows"]))
        return Recording(path.parent, str(told["label"]), float(told["start"]), float(told["end"]), runs)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is no manifest of a recording ({error!r}).", "Record or unpack it again.") from error


def unpack(source: Path, target: Path) -> None:
    """Copy a file of a recording, unpacked if it is packed.

    Raises:
        UsageError: it is missing or damaged.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    opened = lzma.open if source.suffix == PACKED else open
    try:
        with opened(source, "rb") as packed, target.open("wb") as plain:
            shutil.copyfileobj(packed, plain)
    except (lzma.LZMAError, EOFError, FileNotFoundError) as error:
        raise UsageError(f"{source} is missing or damaged ({error}).", "Unpack the recording again.") from error

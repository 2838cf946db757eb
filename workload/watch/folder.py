"""A folder of rendered files, which remembers what it was rendered with, and notices what its reader has changed."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from workload.errors import StorageError, UsageError
from workload.files import atomic_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

RECORD = "watch.json"
READABLE = 0o644
"""The mode of each file: Prometheus and Grafana are other users, and no file holds a secret."""


def write(folder: Path, files: Mapping[str, str], about: Mapping[str, Any], *, overwrites: bool = False) -> list[Path]:
    """Write files, by their paths below `folder`, and what they were rendered with; return their paths.

    A file of an earlier rendering that is rendered no more is removed.

    Raises:
        UsageError: files are there that were not rendered, or were changed since, unless `overwrites`.
        StorageError: a file cannot be read or written.
    """
    before = _hashes(folder)
    gone = {name for name in before if name not in files}
    changed = [name for name in (*files, *gone) if _is_theirs(folder / name, before.get(name), files.get(name))]
    if changed and not overwrites:
        raise UsageError(
            f"{folder} has files that were changed by hand, or are not ours: {', '.join(sorted(changed))}.",
            "Keep your changes elsewhere, or give another --out, or --overwrite to lose them.",
        )
    try:
        for name in gone:
            (folder / name).unlink(missing_ok=True)
        for name in files:  # other users read them
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder} cannot be written ({error}).", "Give another --out.") from error
    record = {**about, "files": {name: _hash(text) for name, text in sorted(files.items())}}
    texts = {**files, RECORD: json.dumps(record, indent=2) + "\n"}
    return [atomic_file.write(folder / name, text, READABLE) for name, text in texts.items()]


def read(folder: Path) -> dict[str, Any]:
    """Return what a folder was rendered with, and its files' hashes.

    Raises:
        UsageError: the folder was not rendered by `hop2rag watch`, or its record is damaged.
    """
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if isinstance(record, dict) and isinstance(record.get("files"), dict):
            return record
    except (OSError, ValueError, RecursionError):
        pass
    raise UsageError(f"{folder} has no {RECORD} of `hop2rag watch`.", "Name the folder that was its --out.")


def _hashes(folder: Path) -> dict[str, str]:
    found = dict(read(folder)["files"]) if (folder / RECORD).exists() else {}
    if out := [name for name in found if not (folder / name).resolve().is_relative_to(folder.resolve())]:
        raise UsageError(f"{out[0]!r} in {folder / RECORD} leads out of the folder.", "Give another --out.")
    return found


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _is_theirs(path: Path, rendered: str | None, wanted: str | None) -> bool:
    """Return whether a file that is there is neither what was rendered nor what is to be."""
    try:
        there = path.read_bytes()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StorageError(f"{path} cannot be read ({error}).", "Give another --out.") from error
    return sha256(there).hexdigest() not in {rendered, _hash(wanted) if wanted is not None else None}

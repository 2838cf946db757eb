"""A run's folder, `runs/<run-id>/`: manifest, journal, and the data and PromQL of every figure."""

from __future__ import annotations

import csv
import io
import json
import os
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import count
from typing import TYPE_CHECKING, Any

from workload.errors import StorageError, UsageError
from workload.files import atomic_file
from workload.files.csv_cells import cell
from workload.files.enclosed import json_of, run_folder
from workload.paths import inside
from workload.record.host import host_facts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

MIN_FREE_BYTES = 200 * 1024 * 1024
MANIFEST = "manifest.json"
VERSIONED = (
    "hop2rag-observatory",
    "chromadb",
    "langgraph",
    "openai",
    "prometheus-client",
    "sentence-transformers",
    "torch",
)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest in a run's folder.

    Raises:
        UsageError: there is no such run, or its manifest is damaged.
    """
    try:
        found = json_of(folder / MANIFEST)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(
            f"There is no run with a manifest in {folder}.", "Look in its parent folder for the name."
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"The manifest in {folder} cannot be read: {reason}.", "Start a new run.") from error
    if not isinstance(found, dict):
        raise UsageError(f"The manifest in {folder} is damaged: it is not a JSON object.", "Start a new run.")
    return found


def new_run_id(experiment: str, now: datetime) -> str:
    """Return a name that sorts by time, such as `20250131-235959-vllm-metrics`."""
    return f"{now:%Y%m%d-%H%M%S}-{experiment}"


def open_bundle(root: Path, run_id: str | None, experiment: str) -> Bundle:
    """Return the bundle of the named run, or of a new run in a folder of its own.

    Two runs that begin in the same second get different folders: otherwise each would count the other's questions.

    Raises:
        UsageError, StorageError: as `Bundle`.
    """
    if run_id:
        return Bundle(root, run_id)
    first = new_run_id(experiment, datetime.now(UTC))
    for number in count(1):
        run = first if number == 1 else f"{first}-{number}"
        folder = run_folder(root, run)
        try:
            atomic_file.make_folder(folder.parent)
            folder.mkdir(mode=atomic_file.OWNERS_FOLDER)
        except FileExistsError:
            continue
        except OSError:
            break  # `Bundle` raises the error
        return Bundle(root, run)
    return Bundle(root, first)


class Bundle:
    """The folder of one run under the results root; files are readable by their owner only.

    Raises:
        UsageError: the name is not plain or leaves the root, or a link in the folder leads out of it.
        StorageError: the root cannot be written, or has less than 200 MiB free.
    """

    def __init__(self, root: Path, run_id: str) -> None:
        self.root = root
        self.run_id = run_id
        self.folder = run_folder(root, run_id)
        self._manifest: dict[str, Any] = {}
        self._promql: dict[str, list[str]] = {}
        try:
            atomic_file.make_folder(self.folder)
            space = os.statvfs(self.folder)
        except OSError as error:
            raise StorageError(f"{root} cannot be written: {error.strerror}.", "Choose another --results.") from error
        if (free := space.f_bavail * space.f_frsize) < MIN_FREE_BYTES:
            raise StorageError(
                f"{root} has {free // 2**20} MiB free; a run needs {MIN_FREE_BYTES // 2**20}.",
                "Free some space or choose another --results.",
            )

    @property
    def journal(self) -> Path:
        """The path of the run's journal."""
        return self.folder / "journal.sqlite"

    def figures(self, experiment: str) -> Path:
        """Return the folder of an experiment's figures, which may not exist yet.

        Raises:
            UsageError: the name is not plain, or a link leads out of the root.
        """
        return inside(inside(self.root, "hop2rag", "The folder"), experiment, "The experiment's folder")

    def note(self, **facts: Any) -> None:
        """Add facts to the manifest and write it."""
        self._manifest |= facts
        self.write_json(MANIFEST, self._manifest)

    def start(self, experiment: str, settings: dict[str, Any]) -> None:
        """Begin the manifest."""
        self.note(
            run=self.run_id,
            experiment=experiment,
            status="running",
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            settings=settings,
            versions={name: version(name) for name in VERSIONED},
            host=host_facts(),
        )

    @property
    def is_begun(self) -> bool:
        """Whether an earlier process has begun this run."""
        return (self.folder / MANIFEST).exists()

    def resume(self) -> dict[str, Any]:
        """Read the manifest of a run that was begun, so that `note` adds to it, and return it."""
        self._manifest = read_manifest(self.folder)
        return dict(self._manifest)

    def note_promql(self, key: str, queries: Sequence[str]) -> None:
        """Add the PromQL of a panel to the bundle."""
        self._promql[key] = list(queries)
        self.write_json("promql.json", self._promql)

    def write_json(self, name: str, value: Any) -> Path:
        """Write a JSON file atomically."""
        return self.write_text(name, json.dumps(value, indent=2, default=str) + "\n")

    def write_csv(self, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
        """Write a CSV file atomically; `workload.files.csv_cells` guards against formulas."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([cell(value) for value in row] for row in (header, *rows))
        return self.write_text(name, text.getvalue())

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file atomically; `name` may have folders.

        Raises:
            StorageError: it could not be written; an earlier file is unchanged.
        """
        return atomic_file.write(self.folder / name, text)

"""An experiment's folder has the files of one run only: its JSON names the run, and all pictures are of that run."""

from __future__ import annotations

import json
from itertools import chain
from typing import TYPE_CHECKING, Any

from workload.charts.time_series import FORMATS
from workload.files import atomic_file
from workload.files.enclosed import json_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from workload.experiment import Study
    from workload.record.bundle import Bundle


def publish(bundle: Bundle, study: Study[Any], summary: Mapping[str, Any]) -> Path:
    """Write a finished run's JSON into its experiment's folder, which is returned, in place of an earlier run's files.

    Pictures of an earlier run are deleted, because a run that draws none, or is stopped, would leave them there.

    Raises:
        StorageError: it cannot be written.
        UsageError: a link leads out of the results.
    """
    folder = bundle.figures(study.folder)
    if not _is_of(folder / study.summary_file, bundle.run_id):
        for picture in chain.from_iterable(folder.glob(f"*.{kind}") for kind in FORMATS):
            picture.unlink(missing_ok=True)
    atomic_file.write(folder / study.summary_file, json.dumps(summary, indent=2) + "\n")
    return folder


def folder_to_redraw(bundle: Bundle, study: Study[Any]) -> Path:
    """Return where a run is drawn again: in its experiment's folder if that is of this run, else in the run's own."""
    folder = bundle.figures(study.folder)
    return folder if _is_of(folder / study.summary_file, bundle.run_id) else bundle.folder / "figures"


def _is_of(path: Path, run: str) -> bool:
    try:
        found = json_of(path)
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("run") == run

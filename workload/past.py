"""A run that was measured before, opened again: what it was asked, what it measured, what it found."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workload.bundle import Bundle, read_manifest
from workload.errors import UsageError
from workload.experiments import EXPERIMENTS
from workload.paths import inside
from workload.results import Measured
from workload.run import footer
from workload.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from workload.experiment import Study


@dataclass(frozen=True)
class PastRun:
    """A run as its bundle tells it; `measured` is empty where there was no engine."""

    study: Study
    bundle: Bundle
    settings: Settings
    measured: tuple[Measured, ...]
    summary: dict[str, Any]
    label: str

    @property
    def run(self) -> str:
        """Its name."""
        return self.bundle.run_id

    @property
    def footer(self) -> str:
        """What every picture of it must say; a recording's label goes first."""
        told = footer(self.run, self.settings, self.measured)
        return f"{self.label}\n{told}" if self.label else told


def open_run(run: str, results: Path) -> PastRun:
    """Return a run of the results folder.

    Raises:
        UsageError: there is none of this name, its files are damaged, or it has not been finished.
    """
    manifest = read_manifest(inside(results / "runs", run, "The run's name"))
    study = EXPERIMENTS.get(str(manifest.get("experiment")))
    if study is None:
        raise UsageError(f"{run} is no run of an experiment.", f"There are: {', '.join(EXPERIMENTS)}.")
    bundle = Bundle(results, run)
    bundle.resume()
    try:
        summary = json.loads((bundle.folder / "summary.json").read_text())
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{run} has no summary: it is {manifest.get('status', 'damaged')}.",
            f"Finish it: hop2rag run {study.name} --resume {run}",
        ) from error
    # A run of an older version may have settings that are gone.
    known = {name: value for name, value in manifest["settings"].items() if name in Settings.model_fields}
    measured = tuple(Measured.from_manifest(row) for row in manifest.get("measured", ()))
    settings = Settings.model_validate(known)
    return PastRun(study, bundle, settings, measured, summary, str(manifest.get("label", "")))

"""A run that was measured before, opened again: what it was asked, what it measured, what it found."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

from workload.errors import UsageError
from workload.files.enclosed import json_of, run_folder
from workload.record.bundle import Bundle
from workload.record.manifest import manifest_in, readable
from workload.report.footer import footer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from workload.experiment import Experiment, OfflineExperiment
    from workload.record.results import Measured
    from workload.settings import Settings


@dataclass(frozen=True)
class PastRun:
    """A run as its bundle describes it; `measured` is empty if there was no engine."""

    study: Experiment[Any] | OfflineExperiment[Any]
    bundle: Bundle
    settings: Settings
    measured: tuple[Measured, ...]
    summary: dict[str, Any]
    _: KW_ONLY
    label: str

    @property
    def run(self) -> str:
        """Its name."""
        return self.bundle.run_id

    @property
    def footer(self) -> str:
        """What every picture of it must say; a recording's label goes first.

        Raises:
            UsageError: the run does not say where its data come from.
        """
        with readable(self.run):
            return footer(self.run, self.settings, self.measured, self.label)


def open_run(
    run: str, results: Path, study_of: Callable[[str, Settings, str], Experiment[Any] | OfflineExperiment[Any]]
) -> PastRun:
    """Return a run of the results folder; `study_of` finds its experiment by name, settings and run.

    Raises:
        UsageError: no run has this name, its files are damaged, or it is not finished.
    """
    folder = run_folder(results, run)
    manifest = manifest_in(folder)
    with readable(run):
        settings = manifest.known_settings
    study = study_of(manifest.experiment, settings, run)
    try:
        summary = dict(json_of(folder / "summary.json"))
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(
            f"{run} has no summary: it is {manifest.status}.", f"Finish it: hop2rag run {study.name} --resume {run}"
        ) from error
    bundle = Bundle(results, run)
    bundle.resume()
    return PastRun(study, bundle, settings, manifest.past_windows, summary, label=manifest.label)

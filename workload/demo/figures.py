"""Draws a recorded run as after its load; each picture shows the recording's label."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from workload.dashboards.catalogue import dashboard_of
from workload.demo.recording import MAX_BYTES, PACKED, Recording, unpack
from workload.errors import UsageError
from workload.experiment import Experiment
from workload.experiments.lookup import study_of
from workload.export.capture import WHOLE, capture, scope_of
from workload.export.panel_series import TimeRange
from workload.files.enclosed import refuse_ways_out
from workload.paths import inside
from workload.record.bundle import Bundle
from workload.record.evidence import Evidence
from workload.record.manifest import Manifest, manifest_in, readable
from workload.report.finish import finish
from workload.report.past_run import open_run

if TYPE_CHECKING:
    from pathlib import Path

    from workload.record.results import Finished
    from workload.services.prometheus import PrometheusClient

FILES = re.compile(r"manifest\.json|summary\.json|journal\.sqlite|nvml/nvml_[A-Za-z0-9_.-]{1,64}\.csv")


def draw_run(
    recording: Recording, run: str, client: PrometheusClient, results: Path
) -> tuple[Experiment[Any], Finished]:
    """Reduce and draw a run of a recording; replaces what an earlier demo left of it below `results`.

    Raises:
        UsageError: the run is damaged, or this version does not have its experiment.
        PrometheusError: Prometheus failed.
    """
    folder = inside(results, run, "The run's name")
    refuse_ways_out(folder)
    bundle = Bundle(folder, run)
    _unpack_run(recording.folder / "runs" / run, bundle.folder)
    with readable(run):
        return _draw(recording, manifest_in(bundle.folder), client, bundle)


def draw_dashboard(run: str, client: PrometheusClient, results: Path) -> Path:
    """Draw the dashboard of a run that `draw_run` has drawn; return the picture.

    Raises:
        PrometheusError: Prometheus failed.
    """
    found = open_run(run, inside(results, run, "The run's name"), study_of)
    windows = [part.window for part in found.measured]
    scope = scope_of(run, (window.arm for window in windows))
    dashboard = dashboard_of(found.study.name)
    folder = found.bundle.folder / "export" / dashboard.name
    capture(dashboard, client, scope, TimeRange.over(windows), folder, footer=found.footer)
    return folder / WHOLE


def _unpack_run(packed: Path, folder: Path) -> None:
    """Replace what an earlier demo left with the files of a recorded run; other files in the recording are ignored."""
    for stale in (*folder.glob("journal.sqlite*"), *folder.glob("nvml/nvml_*.csv")):
        stale.unlink()
    left = MAX_BYTES
    for path in sorted(packed.rglob("*")):
        name = str(path.relative_to(packed)).removesuffix(PACKED)
        if path.is_file() and FILES.fullmatch(name):
            left -= unpack(path, folder / name, left)


def _draw(
    recording: Recording, manifest: Manifest, client: PrometheusClient, bundle: Bundle
) -> tuple[Experiment[Any], Finished]:
    settings = manifest.known_settings
    experiment = study_of(manifest.experiment, settings, bundle.run_id)
    if not isinstance(experiment, Experiment):
        raise UsageError(
            f"{bundle.run_id} is a run of {manifest.experiment}, which needs no engine.", "Record another experiment."
        )
    bundle.resume()
    evidence = Evidence(client, experiment.name, bundle, settings)
    return experiment, finish(experiment, evidence, manifest.past_windows, recording.label)

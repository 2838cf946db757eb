"""Draws a recorded run as it was drawn after its load; each picture bears the recording's label."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

from workload.analysis.untold import settle
from workload.bundle import Bundle
from workload.demo.recording import PACKED, unpack
from workload.drawing import Drawing
from workload.errors import UsageError
from workload.evidence import Evidence
from workload.experiment import Experiment
from workload.experiments import EXPERIMENTS
from workload.report import REPORT, render, section_of
from workload.results import Measured, read_run
from workload.run import Finished, finish, footer
from workload.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from workload.demo.recording import Recording
    from workload.prometheus import PrometheusClient


def draw_run(recording: Recording, run: str, client: PrometheusClient, results: Path) -> tuple[Experiment, Finished]:
    """Reduce and draw a run of a recording; its folder below `results` is replaced.

    Raises:
        UsageError: the run is damaged, or of an experiment that this version does not have.
        PrometheusError: Prometheus failed.
    """
    shutil.rmtree(results / run, ignore_errors=True)
    bundle = Bundle(results / run, run)
    packed = recording.folder / "runs" / run
    for path in sorted(packed.rglob("*")):
        if path.is_file():
            unpack(path, bundle.folder / str(path.relative_to(packed)).removesuffix(PACKED))
    manifest = bundle.resume()
    experiment = EXPERIMENTS.get(manifest["experiment"])
    if not isinstance(experiment, Experiment):
        raise UsageError(f"{run} is a run of {manifest['experiment']}.", f"There are: {', '.join(EXPERIMENTS)}.")
    known = {name: value for name, value in manifest["settings"].items() if name in Settings.model_fields}
    settings = Settings.model_validate({**known, "figures": False})
    measured = [Measured.from_manifest(row) for row in manifest["measured"]]
    evidence = Evidence(client, experiment.name, bundle, settings)
    finished = finish(experiment, evidence, measured)
    drawing = Drawing(
        experiment.name,
        tuple(arm.name for arm in experiment.arms),
        settle(read_run(bundle.journal, measured, evidence)),
        finished.summary,
        client,
        bundle,
        bundle.root / "hop2rag" / experiment.folder,
        f"{recording.label}\n{footer(run, settings, measured)}",
    )
    finished = replace(finished, files=tuple(experiment.draw(drawing)))
    bundle.note(**{**manifest, "label": recording.label})
    bundle.write_text(REPORT, render(f"{experiment.title} ({recording.label})", [section_of(experiment, finished)]))
    return experiment, finished

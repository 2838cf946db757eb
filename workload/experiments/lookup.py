"""Finds the experiment of a run that was measured before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workload.errors import UsageError
from workload.experiments import EXPERIMENTS
from workload.experiments.ab import ab_experiment
from workload.experiments.arms import parse_arms
from workload.record.manifest import readable

if TYPE_CHECKING:
    from workload.experiment import Experiment, OfflineExperiment
    from workload.settings import Settings

COMPARISONS = ("ab", "optimize")
"""What `hop2rag ab` and `optimize` call their runs; their arms were typed."""


def study_of(name: str, settings: Settings, run: str) -> Experiment[Any] | OfflineExperiment[Any]:
    """Return the experiment of a run; a comparison of arms that were typed is made from its settings again.

    Raises:
        UsageError: there is no such experiment, or the arms cannot be read.
    """
    if name in COMPARISONS and settings.load.arms:
        with readable(run):
            return ab_experiment(parse_arms(settings.load.arms), name, name)
    if name not in EXPERIMENTS:
        raise UsageError(f"{run} is no run of an experiment.", f"There are: {', '.join((*EXPERIMENTS, *COMPARISONS))}.")
    return EXPERIMENTS[name]

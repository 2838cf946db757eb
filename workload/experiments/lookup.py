"""Finds the experiment of a past run."""

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
"""The experiments of `hop2rag ab` and `hop2rag optimize`, whose arms come from the command line."""


def study_of(name: str, settings: Settings, run: str) -> Experiment[Any] | OfflineExperiment[Any]:
    """Return the experiment of a run; a comparison of arms is rebuilt from the run's settings.

    Raises:
        UsageError: there is no such experiment, or the arms cannot be read.
    """
    if name in COMPARISONS and settings.load.arms:
        with readable(run):
            return ab_experiment(parse_arms(settings.load.arms), name, name)
    if name not in EXPERIMENTS:
        raise UsageError(
            f"Run {run} is of an unknown experiment, {name!r}.",
            f"There are: {', '.join((*EXPERIMENTS, *COMPARISONS))}.",
        )
    return EXPERIMENTS[name]

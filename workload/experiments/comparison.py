"""Runs a comparison of arms, which all replay one trajectory: a recorded run that is named, else one recorded first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workload.experiments.ab import ab_experiment, recording
from workload.experiments.arms import parse_arms
from workload.harness.run import run_experiment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.progress import Progress

    from workload.experiment import Arm, Experiment
    from workload.record.results import Finished
    from workload.settings import Settings

QUESTIONS_PER_BLOCK = 3
"""Per question in flight."""


def compare_arms(
    settings: Settings, progress: Progress, run_id: str | None = None, *, name: str = "ab", is_live: bool = False
) -> tuple[Experiment[Any], Finished]:
    """Compare the arms of the settings with the first of them.

    Args:
        settings: what to run, with the arms as the command line has them.
        progress: the display.
        run_id: a run to resume; its settings name the run that it replays.
        name: the experiment's name and folder.
        is_live: whether each arm generates its own answers; quality is then compared too, and paths may diverge. An app
            that is not ours always does.

    Raises:
        Hop2RagError: with the exit code of its class.
    """
    is_ours = settings.app.app is None
    arms = parse_arms(settings.load.arms, is_ours=is_ours)
    experiment = ab_experiment(arms, name, name)
    if run_id is None and settings.load.interleave is None:
        settings = settings.changed(interleave=_interleave(arms, settings.load.concurrency))
    if settings.load.replay is None and not is_live and is_ours and run_id is None:
        progress.console.print(f"Recording a trajectory on {arms[0].name}, which every arm then replays")
        alone = settings.changed(record_prompts=True, order="AB", interleave=None, concurrency=(1,), figures=False)
        recorded = run_experiment(recording(arms[0]), alone, progress)
        settings = settings.changed(replay=recorded.run_id)
    return experiment, run_experiment(experiment, settings, progress, run_id)


def _interleave(arms: Sequence[Arm], concurrency: Sequence[int]) -> int | None:
    """Return the questions per block: few, so that drift affects all arms alike; None if a block starts an engine."""
    if len({arm.vllm_profile.unnamed for arm in arms}) > 1:
        return None
    return QUESTIONS_PER_BLOCK * max(concurrency)

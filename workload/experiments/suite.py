"""All experiments in order, with one report; an interrupted suite resumes where it stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workload.experiments import EXPERIMENTS
from workload.harness.run import run_experiment
from workload.record.bundle import open_bundle
from workload.report.page import REPORT, render, section_of
from workload.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rich.progress import Progress

    from workload.experiment import Study
    from workload.record.results import Finished

NOT_FOR_APPS: Mapping[str, str] = {
    "kv-cache": "reads prompts; record an app's with --record-prompts and give --from-run",
    "context-growth": "makes prompts of growing length itself",
}
"""The experiments that cannot measure an app of others, and why; a suite of an app leaves them out."""

ORDER = ("kv-cache", "gpu-memory", "vllm-metrics", "pipeline", "context-growth", "concurrency", "latency")
# Small enough for twenty minutes on two cores; the numbers are real and their intervals wide or absent.
SMOKE: Mapping[str, Any] = {"limit": 3, "max_hops": 2, "order": "AB"}
SMOKE_BY_NAME: Mapping[str, Mapping[str, Any]] = {
    "kv-cache": {"limit": 20, "max_hops": 3},
    "concurrency": {"concurrency": (1, 2)},
}
# The accuracy of draft queries can be measured only where their texts are kept.
ALWAYS: Mapping[str, Mapping[str, Any]] = {"pipeline": {"record_prompts": True}}


def settings_by_experiment(experiment: Study[Any], flags: Mapping[str, Any], *, smoke: bool) -> dict[str, Any]:
    """Return the flags of one experiment of a suite: its defaults, then the small sizes, then the given flags."""
    defaults = {name: getattr(experiment, name) for name in ("limit", "max_hops", "k", "concurrency")}
    small = {**SMOKE, **SMOKE_BY_NAME.get(experiment.name, {})} if smoke else {}
    own = {**defaults, **ALWAYS.get(experiment.name, {}), **small}
    return {**own, **flags}


def run_suite(
    flags: Mapping[str, Any], results: Path, progress: Progress, suite: str | None, *, smoke: bool
) -> tuple[Path, list[Finished]]:
    """Run all experiments, or resume the suite named `suite`; return the report's path and the finished runs.

    Each run is named after its suite, so that a resumed suite finds its finished and its interrupted runs.

    Raises:
        Hop2RagError: an experiment could not be finished; run the suite again with `--resume`.
    """
    bundle = open_bundle(results, suite, "suite")
    bundle.note(run=bundle.run_id, experiment="suite", smoke=smoke, status="running")
    finished = []
    order = [name for name in ORDER if name not in NOT_FOR_APPS or "app" not in flags]
    for experiment in (EXPERIMENTS[name] for name in order):
        settings = load_settings({**settings_by_experiment(experiment, flags, smoke=smoke), "results": results})
        progress.console.rule(experiment.name)
        finished.append(run_experiment(experiment, settings, progress, f"{bundle.run_id}-{experiment.name}"))
    sections = [section_of(EXPERIMENTS[run.summary["experiment"]], run) for run in finished]
    bundle.note(status="finished", runs=[run.run_id for run in finished])
    return bundle.write_text(REPORT, render("Hop2Rag on vLLM: all experiments", sections)), finished

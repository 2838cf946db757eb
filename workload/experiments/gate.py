"""The gate: replays a recorded run on today's engine and judges it against the recording."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workload.analysis.ab import quality
from workload.analysis.gate import Judgement, judge
from workload.analysis.wording import number, percent
from workload.errors import UsageError
from workload.experiment import Arm, Experiment
from workload.experiments.lookup import study_of
from workload.files.enclosed import run_folder
from workload.harness.run import run_experiment
from workload.record.bundle import Bundle
from workload.record.manifest import manifest_in, readable
from workload.record.runs import open_recorded
from workload.report.gate import junit, markdown
from workload.settings import Settings

if TYPE_CHECKING:
    from rich.progress import Progress

    from workload.record.results import Finished

CODES = {"pass": 0, "fail": 7, "undecided": 8}
"""The exit codes of a verdict."""


def gate_experiment(arm: Arm) -> Experiment[Any]:
    """Return the experiment that replays one arm; its figures are those that every experiment has."""
    return Experiment(
        name="gate",
        folder="gate",
        title="Is it worse than the recorded run?",
        arms=(arm,),
        reduce=lambda data: {"quality": {arm.name: quality(data, arm.name)}},
        draw=lambda _: (),
        headline=lambda summary: [("questions", number(summary["quality"][arm.name]["questions"]))],
        columns=("", arm.name),
        verdicts=lambda _: [],
        limit=1,
        summary_file="gate.json",
    )


def replayed(now: Settings, against: str, arm: str | None) -> tuple[Settings, Arm]:
    """Return the settings under which an arm of a recorded run is replayed, by default its first, and that arm.

    Load and agent are those of the recording; engine, corpus and places are named on the command line.

    Raises:
        UsageError: there is no such run or arm, or its files are damaged.
    """
    manifest = manifest_in(run_folder(now.places.results, against))
    with readable(against):
        past = manifest.known_settings
    arms = {each.name: each for each in getattr(study_of(manifest.experiment, past, against), "arms", ())}
    chosen = arms.get(arm) if arm else next(iter(arms.values()), None)
    if chosen is None:
        raise UsageError(
            f"{against} has no arm {arm!r}.", f"It has: {', '.join(arms) or 'none, because no engine ran'}."
        )
    settings = Settings.of({**past.flat("load", "agent"), **now.flat("engine", "corpus", "places")})
    plain = {"order": "AB", "interleave": None, "rate": (), "contexts": (), "arms": (), "record_prompts": False}
    return settings.changed(**plain, replay=past.load.replay or against), Arm(
        chosen.name, chosen.profile, options=chosen.options, engine=chosen.engine
    )


def run_gate(
    now: Settings, against: str, progress: Progress, *, arm: str | None = None, tolerance: float
) -> tuple[Judgement, Finished]:
    """Replay a recorded run, judge it, and write the verdict as Markdown and JUnit XML into the new run's folder.

    Raises:
        Hop2RagError: with the exit code of its class.
    """
    settings, chosen = replayed(now, against, arm)
    reference = open_recorded(now.places.results, against)
    progress.console.print(f"Replaying {chosen.name} of {against}; a change of {percent(tolerance)} is tolerated.")
    finished = run_experiment(gate_experiment(chosen), settings, progress)
    found = judge(reference, open_recorded(now.places.results, finished.run_id), chosen.name, tolerance)
    bundle = Bundle(now.places.results, finished.run_id)
    bundle.write_json("gate.json", found)
    bundle.write_text("gate.md", markdown(found))
    bundle.write_text("gate.xml", junit(found))
    return found, finished

"""What an experiment is: a frozen value. The runner is the only loop; a new experiment needs no change to it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from workload.engine.profile import PROFILES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from rich.progress import Progress

    from workload.charts.drawing import Drawing
    from workload.engine.profile import VllmProfile
    from workload.panels.panel import Figure
    from workload.record.results import Finished, RunData
    from workload.settings import LoadSettings, Settings

Order = Literal["AB", "ABBA"]


@dataclass(frozen=True)
class Point:
    """One load within a block, measured in a window of its own.

    Attributes:
        name: the `phase` of its questions in the journal.
        concurrency: questions in flight; in an open loop the most there may be.
        questions: how many are asked; None for as many as the run's limit.
        contexts: prompt lengths in tokens of a controlled sweep, a call each; empty for the agent's own questions.
        arrivals: of an open loop, the seconds after its start at which each question is to be sent; empty for a closed
            loop, in which a question is sent when another one has ended.
    """

    name: str
    concurrency: int
    contexts: tuple[int, ...] = ()
    arrivals: tuple[float, ...] = ()
    questions: int | None = None


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: an engine profile by name (see `workload.engine.profile.PROFILES`), and the agent.

    Attributes:
        points: the loads of an arm that is no side of a comparison; by default they are the experiment's.
        options: settings of the agent that differ from the run's; see `workload.settings.AgentOptions`.
        engine: fields of the profile that differ from the one named.
    """

    name: str
    profile: str
    points: Callable[[LoadSettings], tuple[Point, ...]] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    engine: Mapping[str, Any] = field(default_factory=dict)

    @property
    def vllm_profile(self) -> VllmProfile:
        """The profile that the arm's engine is started with; one that differs from its model bears the arm's name."""
        found = PROFILES[self.profile]
        return replace(found, name=self.name, **self.engine) if self.engine else found


def levels(load: LoadSettings) -> tuple[Point, ...]:
    """Return a point for each concurrency level of the load, with at least `rounds` questions for each worker."""
    asked = {level: max(load.limit, level * (load.rounds or 0)) for level in load.concurrency}
    return tuple(Point(f"c{level}", level, questions=number) for level, number in asked.items())


@dataclass(frozen=True, kw_only=True)
class Study:
    """What an experiment tells about itself, however it is run.

    Attributes:
        name: the CLI argument, the README's row and the dashboard's uid.
        folder: where its files lie under `results/hop2rag/`.
        title: the question it answers.
        headline: the summary to the rows of the table printed at the end, below `columns`.
        columns: the table's columns; the first names the quantity.
        verdicts: the summary to sentences, one for each thing a reader must know about the numbers.
        limit, max_hops, k, concurrency: defaults of the plan: questions, hops a question, documents a hop, levels.
        sampled: what `--sample-interval` sets: the fast scrape of vLLM, or the sampling of GPU memory.
        summary_file: the JSON of its folder, as the plan names it.
    """

    name: str
    folder: str
    title: str
    headline: Callable[[dict[str, Any]], list[tuple[str, ...]]]
    columns: tuple[str, ...]
    verdicts: Callable[[dict[str, Any]], list[str]]
    limit: int
    max_hops: int
    k: int
    concurrency: tuple[int, ...] = (1,)
    sampled: Literal["vllm", "gpu"] = "vllm"
    summary_file: str = "summary.json"


@dataclass(frozen=True, kw_only=True)
class OfflineExperiment(Study):
    """An experiment that needs no engine.

    Attributes:
        conduct: runs it; takes the experiment, the settings, the display and the name of a run that was begun, if any.
        draw: draws the summary's pictures into a folder and returns their paths.
    """

    conduct: Callable[[OfflineExperiment, Settings, Progress, str | None], Finished]
    draw: Callable[[dict[str, Any], Path], Sequence[Path]]


@dataclass(frozen=True, kw_only=True)
class Experiment(Study):
    """An experiment on running engines.

    Attributes:
        arms: what is compared.
        reduce: the run's data to the summary that is printed and kept as JSON.
        draw: draws the files named by the plan and returns their paths.
        points: the loads of each block.
        warm_up: questions asked before each window of an engine's first block, under a cache salt of their own.
        keeps_engine: whether arms of one profile share an engine, told apart by cache salts alone.
        figures: those of its pictures that are nothing but panels, so that the kept CSV can be drawn again.
    """

    arms: tuple[Arm, ...]
    reduce: Callable[[RunData], dict[str, Any]]
    draw: Callable[[Drawing], Sequence[Path]]
    points: Callable[[LoadSettings], tuple[Point, ...]] = levels
    warm_up: int = 1
    keeps_engine: bool = False
    figures: tuple[Figure, ...] = ()

    def arms_in_order(self, order: Order) -> tuple[Arm, ...]:
        """Return the arms in the order in which they run. ABBA balances drift; AB confounds order and arm.

        Arms with points of their own are not compared, so each of them runs once.
        """
        is_comparison = len(self.arms) > 1 and not any(arm.points for arm in self.arms)
        return (*self.arms, *reversed(self.arms)) if order == "ABBA" and is_comparison else self.arms

    def points_of(self, arm: Arm, load: LoadSettings) -> tuple[Point, ...]:
        """Return the loads of an arm."""
        return (arm.points or self.points)(load)

"""An experiment is a frozen value. The runner is the only loop, and a new experiment does not change it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from workload.engine.profile import PROFILES, VllmProfile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from rich.progress import Progress

    from workload.charts.drawing import Drawing
    from workload.panels.panel import Figure
    from workload.record.results import Finished, RunData
    from workload.settings import LoadSettings, Settings

Order = Literal["AB", "ABBA"]
S = TypeVar("S")
"""The type of an experiment's summary, see `workload.analysis.summaries`."""


@dataclass(frozen=True)
class Point:
    """One load within a block, measured in a window of its own.

    Attributes:
        name: the `phase` of its questions in the journal.
        concurrency: questions in flight; in an open loop, the most.
        questions: how many are asked; None for the run's limit.
        contexts: prompt lengths of a sweep in tokens, one call each; empty for the agent's questions.
        arrivals: the arrival times of an open loop, in seconds after its start; empty for a closed loop, in which a
            question is sent when another one has ended.
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
        points: the arm's own points, if it is not a side of a comparison; by default those of the experiment.
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
        """The profile of the arm's engine; with fields of its own it has the arm's name."""
        found = PROFILES[self.profile]
        return replace(found, name=self.name, **self.engine) if self.engine else found


def levels(load: LoadSettings) -> tuple[Point, ...]:
    """Return a point for each concurrency level of the load, with at least `rounds` questions for each worker."""
    asked = {level: max(load.limit, level * (load.rounds or 0)) for level in load.concurrency}
    return tuple(Point(f"c{level}", level, questions=number) for level, number in asked.items())


@dataclass(frozen=True, kw_only=True)
class Study(Generic[S]):
    """What experiments with and without an engine have in common.

    Attributes:
        name: the CLI argument, the README's row and the dashboard's uid.
        folder: of its files, under `results/hop2rag/`.
        title: the question it answers.
        headline: turns the summary into the rows of the table that is printed at the end, below `columns`.
        columns: the table's columns; the first names the quantity.
        verdicts: turns the summary into sentences, one per fact that a reader of the numbers needs.
        limit, max_hops, k, concurrency: defaults: questions, hops per question, documents per hop, levels.
        sampled: what `--sample-interval` sets: the fast scrape of vLLM, or the sampling of GPU memory.
        summary_file: the name of the JSON in its folder.
    """

    name: str
    folder: str
    title: str
    headline: Callable[[S], list[tuple[str, ...]]]
    columns: tuple[str, ...]
    verdicts: Callable[[S], list[str]]
    limit: int
    max_hops: int = 3
    k: int = 10
    concurrency: tuple[int, ...] = (1,)
    sampled: Literal["vllm", "gpu"] = "vllm"
    summary_file: str = "summary.json"


@dataclass(frozen=True, kw_only=True)
class OfflineExperiment(Study[S]):
    """An experiment that needs no engine.

    Attributes:
        conduct: runs it; takes the experiment, the settings, the display and the name of a run to resume, if any.
        draw: draws the summary's pictures into a folder and returns their paths.
    """

    conduct: Callable[[OfflineExperiment[S], Settings, Progress, str | None], Finished]
    draw: Callable[[S, Path], Sequence[Path]]


@dataclass(frozen=True, kw_only=True)
class Experiment(Study[S]):
    """An experiment on running engines.

    Attributes:
        arms: the sides that are compared.
        reduce: turns the run's data into the summary, which is printed and written as JSON.
        draw: draws the pictures and returns their paths.
        points: the points of each block.
        warm_up: questions before each window of an engine's first block, under their own cache salt.
        keeps_engine: whether arms of one profile share an engine, with different cache salts.
        figures: the pictures that consist of panels only, which can be drawn again from CSV.
    """

    arms: tuple[Arm, ...]
    reduce: Callable[[RunData], S]
    draw: Callable[[Drawing[S]], Sequence[Path]]
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
        """Return the points of an arm."""
        return (arm.points or self.points)(load)

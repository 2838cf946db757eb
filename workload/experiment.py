"""What an experiment is: a frozen value. The runner is the only loop; a new experiment needs no change to it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from workload.panels.panel import Figure
    from workload.results import RunData

Order = Literal["AB", "ABBA"]


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: an engine profile by name (see `workload.engine.profile.PROFILES`)."""

    name: str
    profile: str


@dataclass(frozen=True)
class Window:
    """The time in which one block was measured, warm-up outside: seconds since the epoch, both ends scrape instants."""

    arm: str
    block: int
    start: float
    end: float

    def as_dict(self) -> dict[str, Any]:
        """Return the window for a manifest."""
        return asdict(self)


@dataclass(frozen=True)
class Experiment:
    """An experiment.

    Attributes:
        name: the CLI argument, the README's row and the dashboard's uid.
        folder: where its files lie under `results/hop2rag/`.
        title: the question it answers.
        arms: what is compared.
        figures: what is drawn, each to a file named by the plan.
        reduce: the run's data to the summary that is printed and kept as JSON.
        headline: the summary to the rows of the table printed at the end: quantity, value in each arm, change.
        verdicts: the summary to sentences, one for each thing a reader must know about the numbers.
        limit, max_hops, k: defaults of the plan: questions, hops a question, documents a hop.
        warm_up: questions asked before each window, under a cache salt of their own.
    """

    name: str
    folder: str
    title: str
    arms: tuple[Arm, ...]
    figures: tuple[Figure, ...]
    reduce: Callable[[RunData], dict[str, Any]]
    headline: Callable[[dict[str, Any]], list[tuple[str, ...]]]
    verdicts: Callable[[dict[str, Any]], list[str]]
    limit: int
    max_hops: int
    k: int
    warm_up: int = 1

    def blocks(self, order: Order) -> tuple[Arm, ...]:
        """Return the arms in the order in which they run. ABBA balances drift; AB leaves order and arm confounded."""
        return self.arms if order == "AB" or len(self.arms) == 1 else (*self.arms, *reversed(self.arms))

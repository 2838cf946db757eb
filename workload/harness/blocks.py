"""Whose turn it is: the blocks of a run in their order, and what the engine's cache holds for each of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING

from workload.agent.reuse_order import ReuseOrder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workload.corpus.hotpotqa import Question
    from workload.engine.launcher import RunningEngine
    from workload.experiment import Arm


@dataclass(frozen=True)
class Turn:
    """A block: the questions that an arm answers before it is the next arm's turn.

    `cache` tells turns apart that must not find each other's prefixes: the turns of a place in the order share one, so
    that what an arm reuses across questions does not depend on how often it is interrupted.
    """

    block: int
    arm: Arm
    questions: Sequence[Question]
    cache: int


def turns(arms: Sequence[Arm], questions: Sequence[Question], size: int | None) -> list[Turn]:
    """Return the turns of arms that all answer the first `size` questions, then the next, and so on; None: all at once.

    A machine's speed drifts within minutes. The shorter the turns, the closer in time are the answers to a question
    that are compared, and the more of the drift shows in the spread between questions, as it must.
    """
    step = size or max(1, len(questions))
    parts = [questions[start : start + step] for start in range(0, len(questions), step)]
    places = product(parts, enumerate(arms))
    return [Turn(block, arm, part, cache) for block, (part, (cache, arm)) in enumerate(places)]


@dataclass
class Reuse:
    """The reuse bound goes on as long as its engine does, whoever's turn it is."""

    _last: tuple[RunningEngine, ReuseOrder] | None = field(default=None, init=False)

    def of(self, engine: RunningEngine) -> ReuseOrder:
        """Return what the calls to an engine are held against: the same for one engine, a new one for the next."""
        if self._last is None or self._last[0] is not engine:
            self._last = engine, ReuseOrder(engine.facts.block_size, adapter=engine.facts.adapter)
        return self._last[1]

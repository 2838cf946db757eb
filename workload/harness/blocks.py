"""The blocks of a run in order, and the reuse bound that spans them."""

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
class Block:
    """The questions that an arm answers before the next arm's block begins.

    `number` counts the blocks of a run from 0. `cache` is the arm's place in the order. The blocks of a place share
    their cache salts, so that the reuse across questions does not depend on the length of a block; places share none.
    """

    number: int
    arm: Arm
    questions: Sequence[Question]
    cache: int


def blocks(arms: Sequence[Arm], questions: Sequence[Question], size: int | None) -> list[Block]:
    """Return the blocks of arms that all answer the first `size` questions, then the next `size`, and so on.

    With None, each arm answers all questions in one block. A machine's speed drifts within minutes: the shorter the
    blocks, the closer in time are the answers that are compared, and the more of the drift shows in the spread between
    questions, as it must.
    """
    step = size or max(1, len(questions))
    parts = [questions[start : start + step] for start in range(0, len(questions), step)]
    places = product(parts, enumerate(arms))
    return [Block(number, arm, part, cache) for number, (part, (cache, arm)) in enumerate(places)]


@dataclass
class Reuse:
    """The reuse bound of one engine: it spans the blocks of all arms that the engine serves."""

    _last: tuple[RunningEngine, ReuseOrder] | None = field(default=None, init=False)

    def of(self, engine: RunningEngine) -> ReuseOrder:
        """Return the bound for an engine's calls: the same one as long as the engine is the same."""
        if self._last is None or self._last[0] is not engine:
            self._last = engine, ReuseOrder(engine.facts.block_size, adapter=engine.facts.adapter)
        return self._last[1]

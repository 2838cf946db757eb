"""What a run has measured, as the analysis sees it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from workload.experiment import Window

Row = dict[str, Any]


@dataclass(frozen=True)
class Block:
    """One start of an arm's engine: its window, what the engine said about itself, and counters over the window.

    `counters` maps a metric name to its increase between the two instants, exact; None when the engine does not have
    the metric.
    """

    window: Window
    engine: Mapping[str, Any]
    counters: Mapping[str, float | None]
    accounting: Mapping[str, Any]


@dataclass(frozen=True)
class RunData:
    """A finished run: its blocks and the journal's measured questions and calls, each call with its question's arm."""

    blocks: Sequence[Block]
    questions: Sequence[Row]
    calls: Sequence[Row]

    def counter(self, arm: str, metric: str) -> float | None:
        """Return a counter's increase summed over an arm's blocks; None if any block lacks it."""
        values = [block.counters.get(metric) for block in self.blocks if block.window.arm == arm]
        return None if None in values or not values else float(sum(filter(None, values)))

    def calls_of(self, arm: str) -> list[Row]:
        """Return the calls of an arm that ended well."""
        return [call for call in self.calls if call["arm"] == arm and call["outcome"] == "ok"]

    def by_question(self, arm: str, value: Callable[[Row, list[Row]], float | None]) -> dict[str, float]:
        """Return a value for each question of an arm that was answered, averaged over its blocks.

        Args:
            arm: the arm.
            value: takes a question and its calls; None leaves the question out.
        """
        calls = group(self.calls, "question")
        found: dict[str, list[float]] = defaultdict(list)
        for question in self.questions:
            if question["arm"] == arm and question["outcome"] == "ok":
                number = value(question, calls.get(question["id"], []))
                if number is not None:
                    found[question["question_id"]].append(number)
        return {key: fmean(values) for key, values in found.items()}


def group(rows: Iterable[Row], column: str) -> dict[Any, list[Row]]:
    """Return the rows by the value of a column."""
    groups: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row[column]].append(row)
    return dict(groups)


def total(rows: Iterable[Row], column: str) -> int | None:
    """Return a column's sum; None when a row does not have it: what was not told is not zero."""
    values = [row[column] for row in rows]
    return None if None in values else sum(values)

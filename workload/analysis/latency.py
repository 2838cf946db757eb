"""Where a question's time goes, why its loop ends, and how its prompts grow, from the journal's rows."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from workload.record.results import ENDED, calls_with_usage, group
from workload.statistics.percentiles import percentiles

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from workload.record.results import Row
    from workload.statistics.percentiles import Percentile


class Quartiles(TypedDict):
    """Number, median, quartiles and extremes of values, in their unit."""

    n: int
    median: float
    quartiles: list[float]
    range: list[float]


class NodeTime(Quartiles):
    """The seconds of a node's visits; `share` is its part of the time of all answered questions."""

    percentiles: list[Percentile]
    share: float
    visits_a_question: float


class HopsOfType(TypedDict):
    """How many questions of a type took how many hops, and the mean."""

    n: int
    mean: float
    hops: Mapping[str, int]


class Ending(TypedDict):
    """The questions whose loop ended in one way."""

    n: int
    share: float
    hops: Mapping[str, int]
    seconds: Quartiles
    reasons: dict[str, int]


class HopContext(Quartiles):
    """The prompt tokens of a node's calls at one hop."""

    hop: int


def ended(questions: Iterable[Row]) -> list[Row]:
    """Return the questions that were answered or failed; one that was interrupted has no latency."""
    return [row for row in questions if row["outcome"] in ENDED]


def answered(questions: Iterable[Row]) -> list[Row]:
    """Return the questions that were answered: a failure may be quick, but it is not the latency of an answer."""
    return [row for row in questions if row["outcome"] == "ok"]


def quartiles(values: Sequence[float]) -> Quartiles:
    """Return the quartiles of at least one value."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return {
        "n": len(values),
        "median": float(middle),
        "quartiles": [float(low), float(high)],
        "range": [float(min(values)), float(max(values))],
    }


def distribution(values: Sequence[float]) -> list[Percentile]:
    """Return P50, P95 and P99 of raw values with order-statistic intervals; nothing without values."""
    return percentiles(values) if values else []


def by_node(visits: Iterable[Row], questions: Iterable[Row]) -> dict[str, NodeTime]:
    """Return the seconds of a visit to each node, from its own start to its own end.

    Only visits of answered questions count, so the shares add up to the questions' time less the time between nodes.
    Empty where no question was answered.
    """
    seconds = {row["id"]: row["duration_seconds"] for row in answered(questions)}
    found = group((row for row in visits if row["question"] in seconds), "node")
    everything = sum(seconds.values())
    if not everything:
        return {}
    return {
        node: {
            **quartiles([row["duration_seconds"] for row in rows]),
            "percentiles": distribution([row["duration_seconds"] for row in rows]),
            "share": sum(row["duration_seconds"] for row in rows) / everything,
            "visits_a_question": len(rows) / len(seconds),
        }
        for node, rows in found.items()
    }


def hops_by_type(questions: Iterable[Row]) -> dict[str, HopsOfType]:
    """Return how many hops the answered questions of each type took."""
    return {
        kind: {"n": len(rows), "mean": float(np.mean([row["hops"] for row in rows])), "hops": _counted(rows)}
        for kind, rows in sorted(group(answered(questions), "type").items())
    }


def endings(questions: Iterable[Row]) -> dict[str, Ending]:
    """Return how often `done`, `enough`, `max_hops` or `error` ended a loop, after how many hops and seconds."""
    every = ended(questions)
    return {
        termination: {
            "n": len(rows),
            "share": len(rows) / len(every),
            "hops": _counted(rows),
            "seconds": quartiles([row["duration_seconds"] for row in rows]),
            "reasons": dict(Counter(row["reason"] for row in rows if row["reason"])),
        }
        for termination, rows in sorted(group(every, "termination").items())
    }


def context_by_hop(calls: Iterable[Row]) -> dict[str, list[HopContext]]:
    """Return the prompt tokens of successful calls by node and hop."""
    known = [call for call in calls if call["outcome"] == "ok" and call["prompt_tokens"] is not None]
    return {
        node: [
            {"hop": hop, **quartiles([call["prompt_tokens"] for call in found])}
            for hop, found in sorted(group(rows, "hop").items())
        ]
        for node, rows in group(known, "node").items()
    }


def accumulated(calls: Iterable[Row]) -> dict[int, list[tuple[int, int]]]:
    """Return for each question the tokens sent and generated by the end of each hop, ascending: (hop, tokens) pairs.

    Only questions whose calls all have known tokens are included; a failed call has none.
    """
    found: dict[int, list[tuple[int, int]]] = {}
    for question, rows in group(calls, "question").items():
        if len(calls_with_usage(rows)) < len(rows):
            continue
        by_hop = sorted(group(rows, "hop").items())
        tokens = [sum(call["prompt_tokens"] + call["completion_tokens"] for call in part) for _, part in by_hop]
        found[question] = [(hop, total) for (hop, _), total in zip(by_hop, accumulate(tokens), strict=True)]
    return found


def _counted(rows: Sequence[Row]) -> Mapping[str, int]:
    """Return how many questions took how many hops; keys are text, as in JSON."""
    return {str(hops): number for hops, number in sorted(Counter(row["hops"] for row in rows).items())}

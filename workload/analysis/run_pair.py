"""Two runs beside each other: arm by arm and load by load, each question against itself where both asked it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from workload.analysis.ab import COMPARED, Compared
from workload.errors import UsageError
from workload.statistics.paired import Comparison, compare, median, median_ci

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workload.record.results import RunData
    from workload.record.runs import RecordedRun

UNCOMPARED = frozenset(
    ("corpus", "order", "interleave", "arms", "replay", "from_run", "record_prompts", "limit", "rounds", "concurrency")
)
"""Facts that do not decide what a question costs; the corpus is compared by itself."""


class PairedArms(TypedDict):
    """An arm at a load in two runs. `is_paired` is false where no question is in both: medians only, no change.

    `diverged` is the share of the common questions that took another path or answer in the second run.
    """

    arms: tuple[str, str]
    load: str
    is_paired: bool
    compared: Compared
    diverged: float | None


class RunPair(TypedDict):
    """Two runs; `differs` has each fact in which they are not the same system, with both values."""

    runs: tuple[str, str]
    differs: dict[str, tuple[Any, Any]]
    arms: list[PairedArms]


def compare_runs(first: RecordedRun, second: RecordedRun, arms: tuple[str, str] | None = None) -> RunPair:
    """Compare two runs: arms of one name, else the only arms, else those that `arms` names.

    Raises:
        UsageError: no arm of the two can be compared; the message says how to name them.
    """
    differs = {
        name: (first.facts.get(name), second.facts.get(name))
        for name in sorted(first.facts.keys() | second.facts.keys())
        if name not in UNCOMPARED and first.facts.get(name) != second.facts.get(name)
    }
    same_corpus = first.facts["corpus"] == second.facts["corpus"]
    if not same_corpus:
        differs["corpus"] = (first.facts["corpus"], second.facts["corpus"])
    pairs = [arms] if arms else common_arms(first.data, second.data)
    loads = [load for load in first.data.points if load in second.data.points]
    found = [
        _paired(pair, load, first.data.at(load), second.data.at(load), is_paired=same_corpus)
        for pair in pairs
        for load in loads
        if _has(first.data, pair[0], load) and _has(second.data, pair[1], load)
    ]
    if not found:
        raise UsageError(
            f"{first.run} and {second.run} have no arm at the same load to compare.",
            f"Name two with --arm A=B; they have {_names(first.data)} and {_names(second.data)}.",
        )
    return {"runs": (first.run, second.run), "differs": differs, "arms": found}


def common_arms(first: RunData, second: RunData) -> list[tuple[str, str]]:
    """Return the arms of one name in both runs; without one, the only arm of each."""
    ours, theirs = arms_of(first), arms_of(second)
    if shared := [arm for arm in ours if arm in theirs]:
        return [(arm, arm) for arm in shared]
    return [(ours[0], theirs[0])] if len(ours) == len(theirs) == 1 else []


def arms_of(data: RunData) -> list[str]:
    """Return a run's arms in the order of measurement."""
    return list(dict.fromkeys(part.window.arm for part in data.measured))


def _names(data: RunData) -> str:
    return ", ".join(f"{arm} at {' '.join(loads)}" for arm in arms_of(data) if (loads := _loads(data, arm)))


def _loads(data: RunData, arm: str) -> list[str]:
    return list(dict.fromkeys(part.window.point for part in data.measured if part.window.arm == arm))


def _has(data: RunData, arm: str, load: str) -> bool:
    return load in _loads(data, arm)


def _paired(arms: tuple[str, str], load: str, first: RunData, second: RunData, *, is_paired: bool) -> PairedArms:
    values = {
        name: (first.by_question(arms[0], value), second.by_question(arms[1], value))
        for name, value in COMPARED.items()
    }
    digests = _digests(first, arms[0]), _digests(second, arms[1])
    shared = digests[0].keys() & digests[1].keys()
    is_paired = is_paired and bool(shared)
    return {
        "arms": arms,
        "load": load,
        "is_paired": is_paired,
        "compared": {name: compare(*pair) if is_paired else side_by_side(*pair) for name, pair in values.items()},
        "diverged": sum(digests[0][q] != digests[1][q] for q in shared) / len(shared) if is_paired else None,
    }


def _digests(data: RunData, arm: str) -> dict[str, frozenset[str]]:
    rows = [row for row in data.questions if row["arm"] == arm and row["outcome"] == "ok"]
    asked = dict.fromkeys(row["question_id"] for row in rows)
    return {name: frozenset(row["digest"] for row in rows if row["question_id"] == name) for name in asked}


def side_by_side(a: Mapping[str, float], b: Mapping[str, float]) -> Comparison:
    """Return the medians of two runs that share no question, each over its own; there is no paired change."""
    first, second = _array(list(a.values())), _array(list(b.values()))
    return Comparison(
        n=0,
        shared=0,
        a=median(first),
        a_ci=median_ci(first),
        b=median(second),
        b_ci=median_ci(second),
        change=None,
        change_ci=None,
    )


def _array(values: Sequence[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array(values, dtype=np.float64)

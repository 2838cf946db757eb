"""Answers per second of a load: by a named estimator, over the whole run, and in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from workload.analysis.wording import interval, number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workload.statistics.paired import Interval


class Rate(TypedDict):
    """Answers per second of a load by `estimator`: `n` questions count at least in part, over `seconds`.

    `over_whole_run` is all answers over the time from the first question sent to the last one ended, ramp-up and drain
    included; None without a question.
    """

    estimator: str
    per_second: float | None
    ci: Interval | None
    n: int
    seconds: float
    over_whole_run: float | None
    why_not: str | None


class OpenRate(Rate):
    """Answers per second of an open loop, and the questions that arrived per second."""

    arrived_per_second: float | None


def rate(
    estimator: str,
    over_whole_run: float | None,
    per_second: float | None = None,
    *,
    ci: Interval | None = None,
    n: int = 0,
    seconds: float = 0.0,
    why_not: str | None = None,
) -> Rate:
    """Return a rate; without `per_second`, `why_not` says why there is none."""
    return Rate(
        estimator=estimator,
        per_second=per_second,
        ci=ci,
        n=n,
        seconds=seconds,
        over_whole_run=over_whole_run,
        why_not=why_not,
    )


def in_words(rate: Rate) -> str:
    """Return a rate with its interval, or why there is none."""
    return str(rate["why_not"] or f"{number(rate['per_second'])}{interval(rate['ci'])}")


def note(n: int, ci: Interval | None) -> str:
    """Return a figure's note on an estimate: the number of its values, and whether it lacks a CI."""
    return f"n={n}" if ci else f"n={n}, no CI"


def estimators(rates: Iterable[Rate]) -> str:
    """Return a sentence on how answers per second were counted."""
    found = dict.fromkeys(rate["estimator"] for rate in rates)
    return f"Answers per second count {'; '.join(found)}. Over the whole run: all answers over all of its time."

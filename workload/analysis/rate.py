"""Answers a second as a result tells them: by a named estimator, with the whole run beside it, and in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workload.analysis.wording import interval, number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workload.statistics.paired import Interval


@dataclass(frozen=True)
class Rate:
    """Answers a second of a load.

    Attributes:
        estimator: what is counted, in words.
        per_second: answers a second by it; None where it cannot tell, and then `why_not` says why.
        ci: 95 % interval, or None.
        n: questions of which a part counts.
        seconds: how long was watched.
        over_whole_run: all answers over the time from the first question sent to the last that ended, as a user with a
            watch would count, ramp and drain in it; None without a question.
        why_not: why there is no rate.
    """

    estimator: str
    per_second: float | None
    ci: Interval | None
    n: int
    seconds: float
    over_whole_run: float | None
    why_not: str | None = None


def in_words(rate: dict[str, Any]) -> str:
    """Return a rate from JSON with its interval, or why there is none."""
    return str(rate["why_not"] or f"{number(rate['per_second'])}{interval(rate['ci'])}")


def note(rate: dict[str, Any]) -> str:
    """Return what stands beside a rate in a figure."""
    return f"n={rate['n']}" if rate["ci"] else f"n={rate['n']}, no CI"


def estimators(rates: Iterable[dict[str, Any]]) -> str:
    """Return a sentence on how answers a second were counted."""
    told = dict.fromkeys(rate["estimator"] for rate in rates)
    return f"Estimator of answers a second: {'; '.join(told)}. Over the whole run: all answers over all of its time."

"""Whether a run is worse than the recorded run that it replayed: exact figures first, then paired times.

Exact figures are those that a machine's speed cannot change: answers, calls, tokens. Times are judged by one-sided
bounds (`workload.statistics.regression`). All of them together raise a false alarm in `FALSE_ALARMS` of all runs at
most, if questions vary independently and the machine did not change; a full host, unequal work or another system leave
the times undecided.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

from workload.analysis.ab import COMPARED, Quantity, uncached_tokens
from workload.analysis.host import crowded
from workload.analysis.run_pair import compare_runs
from workload.record.results import Row, total
from workload.settings import AgentOptions
from workload.statistics.regression import Bounds, Verdict, bounds, judged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from workload.record.results import RunData
    from workload.record.runs import RecordedRun

FALSE_ALARMS = 0.002
TIMES: tuple[Quantity, ...] = ("time_to_first_token_seconds", "end_to_end_seconds", "decode_seconds_per_token")
# With several questions in flight, calls that run at the same time may miss what they would have hit one by one.
HIT_RATE_SLACK = 0.001
SAME_SYSTEM = frozenset({*AgentOptions.model_fields, "engine model", "corpus", "seed"})
"""Facts that both runs must share; another version or block size of the engine is what a gate judges."""

Figure = Literal["questions answered", "calls", "uncached prefill tokens", "prefix cache hit rate"]


class Exact(TypedDict):
    """A figure that no machine's speed changes, over the questions of the reference; None where it is unknown."""

    load: str
    figure: Figure
    reference: float | None
    found: float | None
    verdict: Verdict


class Timed(Bounds):
    """The paired change of a time; a change of more than `detectable` would have been found, None if none would."""

    load: str
    quantity: Quantity
    detectable: float | None
    verdict: Verdict


class Judgement(TypedDict):
    """The verdict on `run` against `reference`; `why` says what left the times undecided."""

    verdict: Verdict
    reference: str
    run: str
    tolerance: float
    false_alarms: float
    why: list[str]
    exact: list[Exact]
    times: list[Timed]


def judge(reference: RecordedRun, run: RecordedRun, arm: str, tolerance: float) -> Judgement:
    """Return the verdict on a run that replayed an arm of the reference; `tolerance` is a share of the time.

    Raises:
        UsageError: the two have no load of the arm in common.
    """
    pair = compare_runs(reference, run, (arm, arm))
    loads = [arms["load"] for arms in pair["arms"]]
    is_binding = not run.facts["engine has_random_weights"] or bool(reference.replay_of)
    exact = [row for load in loads for row in exact_figures(reference.data, run.data, arm, load, is_binding=is_binding)]
    alpha = FALSE_ALARMS / (len(TIMES) * len(loads))
    times = [row for load in loads for row in _timed(reference.data, run.data, arm, load, (alpha, tolerance))]
    why = [
        f"{name} differs: {one} and {other}" for name, (one, other) in pair["differs"].items() if name in SAME_SYSTEM
    ]
    why += [
        f"{busy} ({each.run})"
        for each in (reference, run)
        if (busy := crowded(part.accounting for part in each.data.measured))
    ]
    why += [f"{row['figure']} at {row['load']}: not comparable" for row in exact if row["verdict"] == "undecided"]
    return {
        "verdict": verdict_of([row["verdict"] for row in exact], [row["verdict"] for row in times], why),
        "reference": reference.run,
        "run": run.run,
        "tolerance": tolerance,
        "false_alarms": FALSE_ALARMS,
        "why": why,
        "exact": exact,
        "times": times,
    }


def verdict_of(exact: Sequence[Verdict], times: Sequence[Verdict], why: Sequence[str]) -> Verdict:
    """Return the whole verdict: an exact failure holds on any machine; times hold only if nothing disturbed them."""
    if "fail" in exact:
        return "fail"
    if why:
        return "undecided"
    return "fail" if "fail" in times else "undecided" if "undecided" in times else "pass"


def _cached(_: Row, calls: list[Row]) -> float | None:
    return total(calls, "cached_tokens")


def _calls(_: Row, calls: list[Row]) -> float:
    return float(len(calls))


def exact_figures(reference: RunData, run: RunData, arm: str, load: str, *, is_binding: bool) -> list[Exact]:
    """Return the exact figures of one load, over the questions that the reference answered.

    `is_binding` is false where the replayed texts were not those that the engine computed: with random weights, a
    growing log then finds less in the cache than in the reference, whatever the engine's version.
    """
    before, after = reference.at(load), run.at(load)
    answered = before.by_question(arm, _calls).keys()
    sums = [
        [_sum(data.by_question(arm, value), answered) for data in (before, after)]
        for value in (lambda *_: 1.0, _calls, uncached_tokens, _cached)
    ]
    told = [data.by_question(arm, _cached).keys() & answered for data in (before, after)]
    (asked, found), calls, uncached, cached = sums
    rates = [_rate(hits, misses) for hits, misses in zip(cached, uncached, strict=True)]
    slack = 0.0 if load == "c1" else HIT_RATE_SLACK
    is_worse = None not in rates and (rates[0] or 0.0) - (rates[1] or 0.0) > slack + 1e-12
    tokens: Verdict = "pass" if not is_worse else "fail" if is_binding else "undecided"
    if not any(told):
        tokens = "pass"  # an engine that reports no hits, or has no cache, has nothing to lose
    elif told[0] - told[1]:
        tokens = "undecided"  # what is no longer reported may be lost
    figures: list[tuple[Figure, list[float | None], Verdict]] = [
        ("questions answered", [asked, found], "fail" if (found or 0.0) < (asked or 0.0) else "pass"),
        ("calls", calls, "pass" if calls[0] == calls[1] else "undecided"),
        ("uncached prefill tokens", uncached, tokens),
        ("prefix cache hit rate", rates, tokens),
    ]
    return [
        {"load": load, "figure": name, "reference": one, "found": other, "verdict": verdict}
        for name, (one, other), verdict in figures
    ]


def _sum(values: Mapping[str, float], of: object) -> float | None:
    known = [value for name, value in values.items() if name in of]  # type: ignore[operator]
    return sum(known) if known else None


def _rate(hits: float | None, misses: float | None) -> float | None:
    return hits / (hits + misses) if hits is not None and misses is not None and hits + misses else None


def _timed(reference: RunData, run: RunData, arm: str, load: str, limits: tuple[float, float]) -> list[Timed]:
    alpha, tolerance = limits
    rows: list[Timed] = []
    for quantity in TIMES:
        value: Callable[[Row, list[Row]], float | None] = COMPARED[quantity]
        found = bounds(reference.at(load).by_question(arm, value), run.at(load).by_question(arm, value), alpha)
        low, change = found["low"], found["change"]
        rows.append(
            {
                **found,
                "load": load,
                "quantity": quantity,
                "detectable": None if low is None or change is None else tolerance + change - low,
                "verdict": judged(found, tolerance),
            }
        )
    return rows

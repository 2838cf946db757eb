"""One load level: answers per second, latency, engine gauges, and how punctual the client was.

In a closed loop, a question counts only if its middle lies between the first and the last instant at which all workers
were busy: at the end workers run out of questions, and the system has less to do. In an open loop, latency counts from
the instant at which a question was due, because a late client would otherwise hide the queue.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal, TypedDict

import numpy as np

from workload.analysis.latency import Quartiles, answered, distribution, ended, quartiles
from workload.analysis.rate import OpenRate, Rate, rate
from workload.analysis.time_series import summed
from workload.record.results import Row, group
from workload.statistics.throughput import (
    CLOSED,
    MIN_REQUESTS,
    OPEN,
    Level,
    Request,
    efficiencies,
    full_level,
    full_window,
)
from workload.statistics.usl import Usl, fit_usl

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from workload.record.window import Window
    from workload.services.prometheus import Series
    from workload.statistics.percentiles import Percentile
    from workload.statistics.throughput import Efficiency

Loop = Literal["closed", "open"]
SHORTEST_OPEN = 5
LOOPS: Mapping[str, Loop] = {"c": "closed", "r": "open"}


class SendLag(Quartiles):
    """How late the client sent, in seconds; `share` is the median lag over the median latency, None where that is 0."""

    share: float | None


class CallSeconds(TypedDict):
    """The mean number of calls in the system by the engine's clock and by the client's, and how far they differ."""

    engine: float
    client: float
    client_over_engine: float


class Scaling(TypedDict):
    """How an arm scales: the efficiency by concurrency and the Universal Scalability Law, or why there is none."""

    efficiency: dict[str, Efficiency]
    no_efficiency: str | None
    usl: Usl | None
    no_usl: str | None


def load_of(point: str) -> tuple[Loop, float]:
    """Return a point's loop, and its concurrency or its questions per second, from its name: `c8` or `r0.5`."""
    return LOOPS[point[0]], float(point[1:])


def load_in_words(point: str) -> str:
    """Return a point of a load in words, such as "8 at a time" or "0.5 per second"; the name of any other point."""
    if point[:1] not in LOOPS or not point[1:].replace(".", "", 1).isdigit():
        return point
    loop, value = load_of(point)
    return f"{value:g} at a time" if loop == "closed" else f"{value:g} per second"


def start_of(row: Row) -> float:
    """Return the instant at which a question was sent."""
    return float(row["started_at"])


def end_of(row: Row) -> float:
    """Return the instant at which a question ended; its duration counts from when it was due."""
    return float(row["intended_at"] + row["duration_seconds"])


def workers_of(questions: Iterable[Row]) -> list[list[Row]]:
    """Return the ended questions of one load by worker, each in order."""
    return [sorted(rows, key=start_of) for rows in group(ended(questions), "worker").values()]


def full_part(questions: Iterable[Row], concurrency: int) -> tuple[Level | None, list[Row]]:
    """Return a closed loop's level while all workers were busy, and the questions whose middle lies in that time.

    None if they were never all busy. With several engine starts, each load is cut to its own full part first.
    """
    parts, inside = [], []
    for rows in group(_numbered(questions), "load").values():
        workers = workers_of(rows)
        requests = [[Request(start_of(row), end_of(row), row["outcome"] == "ok") for row in rows] for rows in workers]
        window, part = full_window(requests), full_level(requests)
        if window is None or part is None or len(workers) < concurrency:
            continue
        parts.append(part)
        inside += [
            row for rows in workers for row in rows if window[0] <= (start_of(row) + end_of(row)) / 2 < window[1]
        ]
    if not parts:
        return None, []
    cycles = np.concatenate([part.cycle_seconds for part in parts])
    return Level(concurrency, cycles, np.concatenate([part.answered for part in parts])), inside


def throughput(level: Level | None, questions: Iterable[Row]) -> Rate:
    """Return the answers per second of a closed loop.

    `level` is None if its workers were never all busy; `questions` are all questions of the loop.
    """
    whole = _whole(questions)
    if level is None:
        return rate(CLOSED, whole, why_not="its workers were never all busy at the same time")
    return rate(CLOSED, whole, level.throughput, ci=level.interval, n=len(level.cycle_seconds), seconds=level.seconds)


def open_part(questions: Iterable[Row]) -> OpenRate:
    """Return the answers per second of an open loop, and its arrivals per second between the first and the last.

    The rate is None where the arrivals last less than `SHORTEST_OPEN` times the first questions' latency: most answers
    then come afterwards.
    """
    rows = sorted(ended(questions), key=lambda row: row["intended_at"])
    good = answered(rows)
    if not good:
        return {"arrived_per_second": None, **rate(OPEN, _whole(rows), why_not="no question was answered")}
    last = rows[-1]["intended_at"]
    seconds = last - rows[0]["intended_at"]
    # The first answers: in an overloaded loop the later ones only wait longer and longer.
    first = sorted(good, key=end_of)[:MIN_REQUESTS]
    is_long = seconds >= SHORTEST_OPEN * float(np.median([row["duration_seconds"] for row in first]))
    ends = sorted(end for row in good if (end := end_of(row)) <= last) if is_long else []
    watched = ends[-1] - ends[0] if ends else 0.0
    # The first answer only opens the time that is watched.
    per_second = (len(ends) - 1) / watched if watched else None
    why_not = None if watched else "its arrivals ended too soon for its latency"
    answers = rate(OPEN, _whole(rows), per_second, ci=None, n=len(ends), seconds=watched, why_not=why_not)
    return {"arrived_per_second": (len(rows) - 1) / seconds if seconds else None, **answers}


def latencies(questions: Iterable[Row]) -> list[Percentile]:
    """Return P50, P95 and P99 of the seconds of answered questions."""
    return distribution([row["duration_seconds"] for row in answered(questions)])


def send_lag(questions: Iterable[Row], loop: Loop) -> SendLag | None:
    """Return how late the client sent: after its worker was free, or after the question was due."""
    rows = ended(questions)
    if loop == "open":
        lags = [start_of(row) - row["intended_at"] for row in rows]
    else:
        loads = (workers_of(load) for load in group(_numbered(rows), "load").values())
        pairs = (pair for workers in loads for worker in workers for pair in pairwise(worker))
        lags = [start_of(following) - end_of(row) for row, following in pairs]
    if not lags:
        return None
    typical = float(np.median([row["duration_seconds"] for row in rows]))
    found = quartiles(lags)
    return {**found, "share": found["median"] / typical if typical else None}


def extent(series: Sequence[Series]) -> tuple[float, float] | tuple[None, None]:
    """Return peak and mean of a gauge, summed over several engines; None each without a sample."""
    known = [line for line in series if len(line.times)]
    if not known:
        return None, None
    return float(summed(known).values.max()), float(sum(map(_mean, known)))


def call_seconds(
    in_engine_seconds: Sequence[float | None], calls: Sequence[Row], windows: Sequence[Window]
) -> CallSeconds | None:
    """Return the mean number of calls in the system, by the engine's own clock and by the client's.

    They differ by the time between engine and client, and by calls that only one of them counts. This does not check
    Little's law: N = X R holds by construction where N, X and R come from the same list of calls, and for a closed
    loop, whose N workers each send as soon as they are free. The engine's gauge of running calls cannot check it
    either: it shows the state after the last step, and misses every prefill in progress.

    Args:
        in_engine_seconds: the seconds that calls spent in the engine, by its own counter, in each window.
        calls: all calls of these windows as the client timed them, failed ones included.
        windows: the windows.
    """
    seconds = sum(window.end - window.start for window in windows)
    known = [value for value in in_engine_seconds if value is not None]
    if not calls or not sum(known) or len(known) < len(in_engine_seconds):
        return None
    engine, client = sum(known), sum(call["duration_seconds"] for call in calls)
    return {"engine": engine / seconds, "client": client / seconds, "client_over_engine": client / engine - 1}


def scaling(levels: Sequence[Level]) -> Scaling:
    """Return how throughput scales over levels."""
    ordered = sorted(levels, key=lambda level: level.concurrency)
    try:
        found, reason = {str(row["concurrency"]): row for row in efficiencies(ordered)}, None
    except ValueError as error:
        found, reason = {}, str(error)
    fit = fit_usl(ordered)
    return {"efficiency": found, "no_efficiency": reason, "usl": fit.law, "no_usl": fit.reason}


def _whole(questions: Iterable[Row]) -> float | None:
    """Return the answers per second from first sent to last ended, added over the loads; None without a question."""
    loads = list(group(_numbered(ended(questions)), "load").values())
    seconds = sum(max(map(end_of, rows)) - min(map(start_of, rows)) for rows in loads)
    return sum(len(answered(rows)) for rows in loads) / seconds if seconds else None


def _numbered(questions: Iterable[Row]) -> list[Row]:
    """Return the questions with the load that each belongs to: an engine start, or a segment of one."""
    return [{**row, "load": (row["block"], row["segment"])} for row in questions]


def _mean(line: Series) -> float:
    seconds = line.times[-1] - line.times[0]
    return float(np.trapezoid(line.values, line.times) / seconds) if seconds else float(line.values.mean())

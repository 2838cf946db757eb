"""One level of load: its answers a second, its latencies, what the engine did meanwhile, how punctual the client was.

Of a closed loop only the questions count whose middle lies between the first and the last instant at which all workers
were busy: at the end workers run out of questions, and whatever runs then is served by a system with less to do. Of an
open loop, latency counts from the instant at which a question was to be sent; a client that is late itself would else
hide the queue.
"""

from __future__ import annotations

from dataclasses import asdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from workload.analysis.latency import answered, distribution, ended, quartiles
from workload.analysis.rate import Rate
from workload.analysis.time_series import summed
from workload.record.results import group
from workload.statistics.resampling import bounded
from workload.statistics.scaling import efficiencies
from workload.statistics.throughput import CLOSED, MIN_REQUESTS, OPEN, Level, Request, full_level, full_window
from workload.statistics.usl import fit_usl

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from workload.record.results import Row
    from workload.record.window import Window
    from workload.services.prometheus import Series

Loop = Literal["closed", "open"]
SHORTEST_OPEN = 5
LOOPS: Mapping[str, Loop] = {"c": "closed", "r": "open"}


def load_of(point: str) -> tuple[Loop, float]:
    """Return a point's loop, and its concurrency or its questions a second, from its name: `c8` or `r0.5`."""
    return LOOPS[point[0]], float(point[1:])


def start_of(row: Row) -> float:
    """Return the instant at which a question was really sent."""
    return float(row["started_at"])


def end_of(row: Row) -> float:
    """Return the instant at which a question ended; its duration counts from when it was to be sent."""
    return float(row["intended_at"] + row["duration_seconds"])


def workers_of(questions: Iterable[Row]) -> list[list[Row]]:
    """Return the ended questions of one load by worker, each in order."""
    return [sorted(rows, key=start_of) for rows in group(ended(questions), "worker").values()]


def full_part(questions: Iterable[Row], concurrency: int) -> tuple[Level | None, list[Row]]:
    """Return what a closed loop did while all workers were busy, and the questions whose middle lies in there.

    None where they never were. Loads of several starts of the engine are full each for itself, and are then taken
    together.
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


def throughput(level: Level | None, questions: Iterable[Row]) -> dict[str, Any]:
    """Return the answers a second of a closed loop; see `Rate`.

    Args:
        level: what the loop did while all its workers were busy; None if they never were.
        questions: all questions of the loop.
    """
    whole = _whole(questions)
    if level is None:
        return asdict(Rate(CLOSED, None, None, 0, 0.0, whole, "its workers were never all busy at one time"))
    return asdict(Rate(CLOSED, level.throughput, level.interval, len(level.cycle_seconds), level.seconds, whole))


def open_part(questions: Iterable[Row]) -> dict[str, Any]:
    """Return the answers a second of an open loop, see `Rate`, and `arrived_per_second` between first and last arrival.

    Answers are None where the arrivals last shorter than `SHORTEST_OPEN` of the first questions: most then come after.
    """
    rows = sorted(ended(questions), key=lambda row: row["intended_at"])
    good = answered(rows)
    if not good:
        return {"arrived_per_second": None, **asdict(Rate(OPEN, None, None, 0, 0.0, _whole(rows), "nothing answered"))}
    last = rows[-1]["intended_at"]
    seconds = last - rows[0]["intended_at"]
    # The first answers: of a loop that is asked too much the later ones only wait ever longer.
    first = sorted(good, key=end_of)[:MIN_REQUESTS]
    is_long = seconds >= SHORTEST_OPEN * float(np.median([row["duration_seconds"] for row in first]))
    ends = sorted(end for row in good if (end := end_of(row)) <= last) if is_long else []
    watched = ends[-1] - ends[0] if ends else 0.0
    # From one end to another, so the first only opens the time that is watched.
    per_second = (len(ends) - 1) / watched if watched else None
    why_not = None if watched else "its arrivals lasted for too few questions' time"
    rate = Rate(OPEN, per_second, None, len(ends), watched, _whole(rows), why_not)
    return {"arrived_per_second": (len(rows) - 1) / seconds if seconds else None, **asdict(rate)}


def latencies(questions: Iterable[Row]) -> list[dict[str, Any]]:
    """Return P50, P95 and P99 of the seconds of answered questions."""
    return distribution([row["duration_seconds"] for row in answered(questions)])


def send_lag(questions: Iterable[Row], loop: Loop) -> dict[str, Any] | None:
    """Return how late the client sent, in seconds: after its worker was free, or after the instant it was due.

    `share` is the median lag over the median latency, None where that is 0; what is small there has not shaped the
    result.
    """
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


def extent(series: Sequence[Series]) -> dict[str, float] | None:
    """Return peak and mean over time of a gauge; None without a sample. Of several engines it is that of their sum."""
    told = [line for line in series if len(line.times)]
    if not told:
        return None
    whole = summed(told)
    return {"peak": float(whole.values.max()), "mean": float(sum(map(_mean, told)))}


def call_seconds(
    in_engine_seconds: Sequence[float | None], calls: Sequence[Row], windows: Sequence[Window]
) -> dict[str, float] | None:
    """Return the mean number of calls in the system, by the engine's own clock and by the client's.

    They can differ: by what lies between the engine and the client, and by calls that one of them does not know. They
    are no check of Little's law: N = X R holds by construction where N, X and R come from the same list of calls, and
    for the questions of a closed loop, whose N workers are busy because each sends as soon as it is free. The engine's
    gauge of running calls is no witness: it shows the state after the last step, and misses every prefill under way.

    Args:
        in_engine_seconds: the seconds that calls have spent in the engine, by its own counter, in each window.
        calls: all calls of these windows, failed ones too, as the client timed them.
        windows: the windows.
    """
    seconds = sum(window.end - window.start for window in windows)
    known = [value for value in in_engine_seconds if value is not None]
    if not calls or not sum(known) or len(known) < len(in_engine_seconds):
        return None
    engine, client = sum(known), sum(call["duration_seconds"] for call in calls)
    return {"engine": engine / seconds, "client": client / seconds, "client_over_engine": client / engine - 1}


def scaling(levels: Sequence[Level]) -> dict[str, Any]:
    """Return the efficiency of each level by its concurrency, and the Universal Scalability Law, or why not."""
    ordered = sorted(levels, key=lambda level: level.concurrency)
    try:
        found = {str(row.concurrency): asdict(row) for row in efficiencies(ordered)}
        reason = None
    except ValueError as error:
        found, reason = {}, str(error)
    fit = fit_usl(ordered)
    return {
        "efficiency": found,
        "no_efficiency": reason,
        "usl": None if fit.law is None else {key: bounded(value) for key, value in asdict(fit.law).items()},
        "no_usl": fit.reason,
    }


def _whole(questions: Iterable[Row]) -> float | None:
    """Return the answers a second from first sent to last ended, of each load for itself; None without a question."""
    loads = list(group(_numbered(ended(questions)), "load").values())
    seconds = sum(max(map(end_of, rows)) - min(map(start_of, rows)) for rows in loads)
    return sum(len(answered(rows)) for rows in loads) / seconds if seconds else None


def _numbered(questions: Iterable[Row]) -> list[Row]:
    """Return the questions with the load they belong to: a start of an engine, or a part of one."""
    return [{**row, "load": (row["block"], row["segment"])} for row in questions]


def _mean(line: Series) -> float:
    seconds = line.times[-1] - line.times[0]
    return float(np.trapezoid(line.values, line.times) / seconds) if seconds else float(line.values.mean())

"""One level of load: its steady part, its latencies, what the engine did meanwhile, and how punctual the client was.

Of a closed loop only the questions count that were started while every worker was busy: at the end workers run out of
questions, the load falls, and whatever ends then was served by a system with less to do. Of an open loop, latency
counts from the instant at which a question was to be sent; a client that is late itself would else hide the queue.
"""

from __future__ import annotations

from dataclasses import asdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from workload.analysis.bounds import bounded
from workload.analysis.latency import answered, distribution, ended, spread
from workload.analysis.resampling import percentile_interval
from workload.analysis.scaling import (
    MIN_REQUESTS,
    RESAMPLES,
    Level,
    Request,
    check_littles_law,
    efficiencies,
    steady_level,
    steady_window,
)
from workload.analysis.usl import fit_usl
from workload.results import group

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from workload.experiment import Window
    from workload.prometheus import Series
    from workload.results import Row

Loop = Literal["closed", "open"]
STEADY_LATENCIES = 5
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


def steady_part(questions: Iterable[Row], concurrency: int) -> tuple[Level | None, list[Row]]:
    """Return the steady part of a closed loop and the questions in it; None where it was never at its level.

    Loads of several starts of the engine are steady each for itself, and are then taken together.
    """
    parts, inside = [], []
    for rows in group(_numbered(questions), "load").values():
        workers = workers_of(rows)
        requests = [[Request(start_of(row), end_of(row), row["outcome"] == "ok") for row in rows] for rows in workers]
        window, part = steady_window(requests), steady_level(requests)
        if window is None or part is None or len(workers) < concurrency:
            continue
        parts.append(part)
        inside += [row for rows in workers for row in rows if window[0] <= start_of(row) < window[1]]
    if not parts:
        return None, []
    cycles = np.concatenate([part.cycle_seconds for part in parts])
    return Level(concurrency, cycles, np.concatenate([part.succeeded for part in parts])), inside


def throughput(level: Level, seed: int = 0) -> dict[str, Any]:
    """Return the successes a second of a steady level, with a 95 % interval from `MIN_REQUESTS` questions on."""
    ci = None
    if len(level.cycle_seconds) >= MIN_REQUESTS:
        ci = percentile_interval(level.resampled_throughput(RESAMPLES, np.random.default_rng(seed)))
    return {"per_second": level.throughput, "ci": ci, "n": len(level.cycle_seconds)}


def open_part(questions: Iterable[Row]) -> dict[str, Any]:
    """Return the arrivals and the successes a second of an open loop between its first and its last arrival.

    Successes are None where the arrivals last shorter than `STEADY_LATENCIES` questions: then most answers come after.
    """
    rows = sorted(ended(questions), key=lambda row: row["intended_at"])
    seconds = rows[-1]["intended_at"] - rows[0]["intended_at"] if rows else 0.0
    if not seconds:
        return {"arrived_per_second": None, "per_second": None, "ci": None, "n": len(rows)}
    good = answered(rows)
    is_long = good and seconds >= STEADY_LATENCIES * float(np.median([row["duration_seconds"] for row in good]))
    in_time = sum(end_of(row) <= rows[-1]["intended_at"] for row in good)
    return {
        "arrived_per_second": (len(rows) - 1) / seconds,
        "per_second": in_time / seconds if is_long else None,
        "ci": None,
        "n": len(rows),
    }


def latencies(questions: Iterable[Row]) -> list[dict[str, Any]]:
    """Return P50, P95 and P99 of the seconds of answered questions."""
    return distribution([row["duration_seconds"] for row in answered(questions)])


def send_lag(questions: Iterable[Row], loop: Loop) -> dict[str, Any] | None:
    """Return how late the client sent, in seconds: after its worker was free, or after the instant it was due.

    `share` is the median lag over the median latency; what is small there has not shaped the result.
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
    found = spread(lags)
    return {**found, "share": found["median"] / typical}


def extent(series: Sequence[Series]) -> dict[str, float] | None:
    """Return peak and mean over time of a gauge; None without a sample. Of several engines it is the sum."""
    told = [line for line in series if len(line.times)]
    if not told:
        return None
    return {"peak": float(sum(line.values.max() for line in told)), "mean": float(sum(map(_mean, told)))}


def littles_law(
    in_system_seconds: Sequence[float | None], calls: Sequence[Row], windows: Sequence[Window]
) -> dict[str, float] | None:
    """Return whether as many calls are in the system as their rate and their time say: N = X R.

    Two clocks that do not know of each other: N is what the engine says, X and R are the client's. The engine's gauge
    of running calls is no witness: it shows the state after the last step, and misses every prefill under way.

    Args:
        in_system_seconds: the seconds that calls have spent in the engine, by its own counter, in each window.
        calls: all calls of these windows, failed ones too, as the client timed them.
        windows: the windows.
    """
    seconds = sum(window.end - window.start for window in windows)
    known = [value for value in in_system_seconds if value is not None]
    if not calls or not sum(known) or len(known) < len(in_system_seconds):
        return None
    residence = float(np.mean([call["duration_seconds"] for call in calls]))
    return asdict(check_littles_law(sum(known) / seconds, len(calls) / seconds, residence))


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


def _numbered(questions: Iterable[Row]) -> list[Row]:
    """Return the questions with the load they belong to: a start of an engine, or a part of one."""
    return [{**row, "load": (row["block"], row["segment"])} for row in questions]


def _mean(line: Series) -> float:
    seconds = line.times[-1] - line.times[0]
    return float(np.trapezoid(line.values, line.times) / seconds) if seconds else float(line.values.mean())

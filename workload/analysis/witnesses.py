"""How busy each resource was, by independent witnesses: spans, live counters, the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

import numpy as np

from workload.analysis.memory import without_prefill
from workload.analysis.overlap import GENERATION, RETRIEVAL, activities, busy_seconds, busy_union, serial_seconds
from workload.analysis.spans import MeasuredLoad, lies_in, shared_seconds, span_of
from workload.record.results import group

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workload.analysis.overlap import Activity
    from workload.analysis.time_series import TimeSeries
    from workload.statistics.paired import Interval

COUNTER_TOLERANCE = 0.01
SERVER_TOLERANCE_POINTS = 3.0
# Below this a scraped gauge misses too much of a call to be compared with its span.
COMPARABLE_CALL_SECONDS = 1.0
StageTime = dict[
    Literal["count", "seconds", "median_seconds", "share_of_load", "beside_generation_seconds"], int | float
]


class BusySources(TypedDict):
    """The seconds of each activity by two sources, and whether they agree; None without a counter."""

    spans: dict[Activity, float]
    counter: dict[Activity, float] | None
    within_1_percent: bool | None


class Apart(TypedDict):
    """How far apart two values are in points, and whether that is little enough; None where it cannot be said."""

    points: float | None
    within_3_points: bool | None


class ServerBusy(TypedDict):
    """How busy the engine was by spans, counter and server; see `against_server`."""

    spans_busy_share: float
    counter_busy_share: float | None
    spans_requests_in_flight: float
    server_requests_in_flight: float | None
    cut_requests_in_flight: float
    spans_to_server: Apart
    counter_to_server: Apart


class GaugeBusy(TypedDict):
    """How busy the engine was by its gauge of running requests; see `against_gauge`."""

    share: float | None
    resolution_seconds: float | None
    call_seconds_median: float | None
    scrapes_outside_prefill: int
    share_outside_prefill: float | None
    spans_share_outside_prefill: float | None
    to_spans: Apart


def against_counter(load: MeasuredLoad, counted: Mapping[Activity, float]) -> BusySources:
    """Return the seconds of each activity by spans and by `hop2rag_busy_seconds_total`, and whether they agree.

    They agree within 1 % of what the spans say; `neither` within 1 % of the load, because the counter also accounts
    for the moments before the first question and after the last. An empty `counted` cannot be compared.
    """
    spans = activities([*load.retrievals, *load.generations], load.interval)
    if not counted:
        return {"spans": spans, "counter": None, "within_1_percent": None}
    allowed = {name: COUNTER_TOLERANCE * (load.seconds if name == "neither" else spans[name]) for name in spans}
    # a counter of an activity that never ran may carry the rounding of a clock
    agree = all(abs(counted[name] - spans[name]) <= max(allowed[name], 1e-3) for name in spans)
    return {"spans": spans, "counter": dict(counted), "within_1_percent": agree}


def against_server(load: MeasuredLoad, counted: Mapping[Activity, float], request_seconds: float | None) -> ServerBusy:
    """Return how busy the engine was by call spans, by the live counter and by the server's own latencies.

    The sum of the server's request latencies, over the load's length, is the mean number of requests in flight, exactly
    (Little's law); with one worker that is the busy share. Differences are in points of it, and may be 3. A server may
    count a call that was cut, or not: `cut_requests_in_flight` is the part of the spans from such calls; if they can
    explain the difference, `within_3_points` is None.

    Args:
        load: the load.
        counted: seconds by activity of `hop2rag_busy_seconds_total`, or nothing.
        request_seconds: increase of the sum of end-to-end latencies over the window; None if it is not reported.
    """
    alone = len(load.workers) == 1
    spans = serial_seconds(load.generations) / load.seconds
    server = request_seconds / load.seconds if request_seconds is not None else None
    cut = (
        sum(row["duration_seconds"] for row in (*load.calls, *load.uncounted) if row["outcome"] != "ok") / load.seconds
    )
    generating = (counted["generation_only"] + counted["both"]) / load.seconds if counted else None
    return {
        "spans_busy_share": _busy_share(load),
        "counter_busy_share": generating,
        "spans_requests_in_flight": spans,
        "server_requests_in_flight": server,
        "cut_requests_in_flight": cut,
        "spans_to_server": _but_for(_apart(spans, server), _apart(spans - cut, server)),
        # with several workers calls overlap, so a busy share is not the number of requests in flight
        "counter_to_server": _apart(generating, server) if alone else _apart(None, None),
    }


def against_gauge(load: MeasuredLoad, running: TimeSeries) -> GaugeBusy:
    """Return how busy the engine was by its scraped gauge of running requests, a coarse source.

    vLLM sets it after an engine step, so while every call in flight is in its prefill it still shows the state before.
    Gauge and spans are compared at the scrapes outside of such moments, and only where calls last a second or more.
    """
    median = float(np.median([row["duration_seconds"] for row in load.calls])) if load.calls else None
    fresh = without_prefill(running, load.calls).clipped(load.interval)
    shares: tuple[float | None, float | None] = (None, None)
    if fresh.times.size:
        in_calls = lies_in(fresh.times, busy_union(load.generations, load.interval))
        shares = (float(np.mean(fresh.values > 0)), float(np.mean(in_calls)))
    apart = _apart(*shares)
    if median is None or median < COMPARABLE_CALL_SECONDS:
        apart["within_3_points"] = None
    return {
        "share": share_above_zero(running, load.interval),
        "resolution_seconds": running.resolution_seconds,
        "call_seconds_median": median,
        "scrapes_outside_prefill": int(fresh.times.size),
        "share_outside_prefill": shares[0],
        "spans_share_outside_prefill": shares[1],
        "to_spans": apart,
    }


def _busy_share(load: MeasuredLoad) -> float:
    return busy_seconds(load.generations, load.interval).get(GENERATION, 0.0) / load.seconds


def _apart(one: float | None, other: float | None) -> Apart:
    """Return the difference of two shares, or numbers in flight, in points."""
    if one is None or other is None:
        return {"points": None, "within_3_points": None}
    points = 100 * abs(one - other) / max(1.0, one, other)
    return {"points": points, "within_3_points": points <= SERVER_TOLERANCE_POINTS}


def _but_for(apart: Apart, without: Apart) -> Apart:
    """Return the difference `apart`, undecided if the shares agree `without` the part that only one may include."""
    is_undecided = apart["within_3_points"] is False and without["within_3_points"]
    return {**apart, "within_3_points": None} if is_undecided else apart


def share_above_zero(line: TimeSeries, interval: Interval) -> float | None:
    """Return the share of an interval with a scraped gauge above 0; each value counts until the next scrape."""
    if len(line.times) < 2:
        return None
    starts = np.clip(line.times, *interval)
    ends = np.clip(np.append(line.times[1:], interval[1]), *interval)
    return float(((ends - starts) * (line.values > 0)).sum() / (interval[1] - interval[0]))


def stages_during_generation(load: MeasuredLoad) -> dict[str, StageTime]:
    """Return the time of each retrieval stage, and the seconds of it in which the engine generated."""
    found: dict[str, StageTime] = {}
    for stage, rows in group(load.stages, "stage").items():
        spans = [span_of(row, RETRIEVAL) for row in rows]
        seconds = busy_seconds(spans, load.interval).get(RETRIEVAL, 0.0)
        found[stage] = {
            "count": len(spans),
            "seconds": seconds,
            "median_seconds": float(np.median([span.seconds for span in spans])),
            "share_of_load": seconds / load.seconds,
            "beside_generation_seconds": shared_seconds(spans, load.generations, load.interval),
        }
    return found

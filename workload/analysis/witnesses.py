"""How busy each resource was, from witnesses that do not know of each other: spans, live counters, the server."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from workload.analysis.overlap import activities, busy_seconds, serial_seconds
from workload.analysis.spans import shared_seconds, span_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workload.analysis.memory import Line
    from workload.analysis.paired import Interval
    from workload.analysis.spans import Load

COUNTER_TOLERANCE = 0.01
SERVER_TOLERANCE_POINTS = 3.0
# Below this a scraped gauge misses too much of a call to be compared with its span.
COMPARABLE_CALL_SECONDS = 1.0


def against_counter(load: Load, counted: Mapping[str, float]) -> dict[str, Any]:
    """Return the seconds of each activity by spans and by `hop2rag_busy_seconds_total`, and whether they agree.

    They agree within 1 % of what the spans say; `neither` within 1 % of the load, because the counter also accounts
    for the moments before the first question and after the last. An empty `counted` cannot be compared.
    """
    spans = asdict(activities([*load.retrievals, *load.generations], load.interval))
    if not counted:
        return {"spans": spans, "counter": None, "within_1_percent": None}
    allowed = {name: COUNTER_TOLERANCE * (load.seconds if name == "neither" else spans[name]) for name in spans}
    # a counter of an activity that never ran may carry the rounding of a clock
    agree = all(abs(counted[name] - spans[name]) <= max(allowed[name], 1e-3) for name in spans)
    return {"spans": spans, "counter": dict(counted), "within_1_percent": agree}


def against_server(
    load: Load, running: Line, request_seconds: float | None, prefill_seconds: float | None
) -> dict[str, Any]:
    """Return the engine's busy share by call spans and by the server, in two ways, and how far they lie apart.

    The sum of the server's request latencies is exact: over the load it is the mean number of requests in flight, and
    with one worker the busy share itself. The gauge of running requests is scraped, and vLLM sets it only after an
    engine step: it misses the prefill of a call that comes alone. Shares of the load; differences in points.

    Args:
        load: the load.
        running: requests running, as scraped.
        request_seconds: increase of the sum of end-to-end latencies over the window; None if the server does not tell.
        prefill_seconds: the same of prefill times.
    """
    busy = busy_seconds(load.generations, load.interval).get("generation", 0.0) / load.seconds
    in_flight = serial_seconds(load.generations) / load.seconds
    durations = [row["duration_seconds"] for row in load.calls]
    median = float(np.median(durations)) if durations else None
    by_sum = request_seconds / load.seconds if request_seconds is not None else None
    gauge = held_share(running, load.interval)
    prefill = prefill_seconds / load.seconds if prefill_seconds is not None else None
    apart = 100 * abs(by_sum - in_flight) / max(1.0, in_flight) if by_sum is not None else None
    is_comparable = median is not None and median >= COMPARABLE_CALL_SECONDS
    # with one worker the prefills, in which the gauge still shows the state before, do not overlap with anything
    seen = gauge + prefill if gauge is not None and prefill is not None and len(load.workers) == 1 else gauge
    return {
        "spans_busy_share": busy,
        "spans_requests_in_flight": in_flight,
        "server_requests_in_flight": by_sum,
        "points_apart": apart,
        "within_3_points": apart <= SERVER_TOLERANCE_POINTS if apart is not None else None,
        "gauge": {
            "share": gauge,
            "share_with_prefill": seen,
            "resolution_seconds": running.resolution_seconds,
            "call_seconds_median": median,
            "points_apart": 100 * abs(seen - busy) if seen is not None else None,
            "within_3_points": (
                100 * abs(seen - busy) <= SERVER_TOLERANCE_POINTS if seen is not None and is_comparable else None
            ),
        },
    }


def held_share(line: Line, interval: Interval) -> float | None:
    """Return the share of an interval in which a scraped gauge was above 0, each value held until the next scrape."""
    if len(line.times) < 2:
        return None
    starts = np.clip(line.times, *interval)
    ends = np.clip(np.append(line.times[1:], interval[1]), *interval)
    return float(((ends - starts) * (line.values > 0)).sum() / (interval[1] - interval[0]))


def stages_beside_generation(load: Load) -> dict[str, dict[str, float]]:
    """Return the seconds of each retrieval stage, and those of them in which the engine generated for someone."""
    by_stage: dict[str, list[Any]] = {}
    for row in load.stages:
        by_stage.setdefault(row["stage"], []).append(span_of(row, "retrieval"))
    found = {}
    for stage, spans in by_stage.items():
        beside = shared_seconds(spans, load.generations, load.interval)
        seconds = busy_seconds(spans, load.interval).get("retrieval", 0.0)
        found[stage] = {
            "count": len(spans),
            "seconds": seconds,
            "median_seconds": float(np.median([span.seconds for span in spans])),
            "share_of_load": seconds / load.seconds,
            "beside_generation_seconds": beside,
        }
    return found

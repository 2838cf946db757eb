"""Memory over time and what it is attributed to: peaks, phases, hops, internal fragmentation, sampling quality."""

from __future__ import annotations

from math import ceil, inf
from typing import TYPE_CHECKING, Literal, TypedDict

import numpy as np

from workload.analysis.overlap import Span, busy_union
from workload.analysis.spans import active_at, lies_in, pauses
from workload.analysis.time_series import TimeSeries
from workload.record.results import Row, group
from workload.statistics.percentiles import quantile

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from workload.statistics.paired import Interval

# How far the achieved interval may differ from the requested one, as a share of it.
INTERVAL_TOLERANCE = 0.2
# A renewed but equal value hides its renewal, so the shortest distances between changes give the period.
REFRESH_QUANTILE = 0.05
# A highest value in a larger share of the samples is a plateau.
PLATEAU = 0.1
ALWAYS = (-inf, inf)
Phase = Literal["retrieval", "generation", "neither"]


class Spread(TypedDict, total=False):
    """Number, extremes, mean, median and percentiles of samples, and how many values differ; without samples only `n`.

    A percentile is None if the values are too few for it. For a node it also has the number and the seconds of its
    visits; for a phase the number of its stretches, and of those that were long enough to be sampled; for
    fragmentation the value that token counts predict, and why it was not measured.
    """

    n: int
    min: float
    p5: float | None
    mean: float
    median: float
    p95: float | None
    max: float
    distinct: int
    visits: int
    seconds: float
    stretches: int
    long_enough: int
    expected: float | None
    why: str


class Peak(TypedDict):
    """The highest value, when it was first reached (s after the load began), and what ran then.

    Node, hop and question are None unless exactly one visit ran at that instant. `time_at_peak` is the share of samples
    at that value: near 1 it is a plateau rather than a peak.
    """

    value: float
    seconds: float
    node: str | None
    hop: int | None
    question_id: str | None
    time_at_peak: float


class Sampling(TypedDict):
    """The requested interval, the achieved rate and gaps, and whether the median gap is the requested interval."""

    asked_seconds: float
    samples: int
    rate_hertz: float
    gap_p50_seconds: float
    gap_p95_seconds: float | None
    gap_p99_seconds: float | None
    gap_max_seconds: float
    matches: bool


class KvOfHop(TypedDict):
    """KV bytes of the calls of a hop."""

    calls: int
    from_usage: Spread
    sampled: Spread


def spread(values: NDArray[np.float64]) -> Spread:
    """Return the spread of values, shape (n,), without NaN."""
    values = values[~np.isnan(values)]
    if not values.size:
        return {"n": 0}
    return {
        "n": int(values.size),
        "min": float(values.min()),
        "p5": quantile(values, 0.05),
        "mean": float(values.mean()),
        "median": float(np.quantile(values, 0.5)),
        "p95": quantile(values, 0.95),
        "max": float(values.max()),
        "distinct": int(np.unique(values).size),
    }


def peak(line: TimeSeries, visits: Iterable[Row], origin: float) -> Peak | None:
    """Return the peak of a line, in seconds after `origin`; None without samples."""
    if not line.values.size:
        return None
    first = int(np.argmax(line.values))
    visit = active_at(float(line.times[first]), visits) or {}
    return {
        "value": float(line.values[first]),
        "seconds": float(line.times[first] - origin),
        "node": visit.get("node"),
        "hop": visit.get("hop"),
        "question_id": visit.get("question_id"),
        "time_at_peak": float(np.mean(line.values == line.values[first])),
    }


def where_of(top: Peak) -> str:
    """Return in words where a peak was; a long one is a plateau, which cannot be attributed to a node."""
    where = f"{top['node']}, hop {top['hop']}" if top["node"] else "no single node active"
    return (
        where if top["time_at_peak"] < PLATEAU else f"first in {where}, and for {top['time_at_peak']:.0%} of the time"
    )


def by_node(line: TimeSeries, visits: Iterable[Row]) -> dict[str, Spread]:
    """Return for each node how long its visits lasted and the spread of the samples during them.

    The caller ensures that only one visit runs at a time.
    """
    stretches = {node: [_interval(row) for row in rows] for node, rows in group(visits, "node").items()}
    return {
        node: {"visits": len(found), "seconds": sum(end - start for start, end in found), **spread(line.within(found))}
        for node, found in stretches.items()
    }


def _interval(row: Row) -> Interval:
    return row["started_at"], row["started_at"] + row["duration_seconds"]


def during(line: TimeSeries, stretches: Sequence[Interval], shortest: float, lag: float = 0.0) -> Spread:
    """Return the spread of a line over those stretches that are long enough to be seen in it, and their number.

    Args:
        line: the line.
        stretches: the stretches whose samples count.
        shortest: the shortest stretch that counts, in seconds.
        lag: seconds after a stretch's start in which a value still describes the time before it.
    """
    seen = [(start + lag, end) for start, end in stretches if end - start >= shortest]
    return {"stretches": len(stretches), "long_enough": len(seen), **spread(line.within(seen))}


def sampling(times: NDArray[np.float64], asked_seconds: float) -> Sampling:
    """Return how sampling instants, shape (n,), n >= 2, match the requested interval, within `INTERVAL_TOLERANCE`."""
    gaps = np.diff(times)
    p50 = float(np.median(gaps))
    return {
        "asked_seconds": asked_seconds,
        "samples": len(times),
        "rate_hertz": float((len(times) - 1) / (times[-1] - times[0])),
        "gap_p50_seconds": p50,
        "gap_p95_seconds": quantile(gaps, 0.95),
        "gap_p99_seconds": quantile(gaps, 0.99),
        "gap_max_seconds": float(gaps.max()),
        "matches": abs(p50 / asked_seconds - 1) <= INTERVAL_TOLERANCE,
    }


def refresh_seconds(line: TimeSeries) -> float | None:
    """Return how often a polled value is updated, in seconds; None if it changed too rarely to tell."""
    changes = line.times[1:][np.diff(line.values) != 0]
    return float(np.quantile(np.diff(changes), REFRESH_QUANTILE)) if len(changes) > 2 else None


def blind_stretches(calls: Iterable[Row]) -> list[Interval]:
    """Return when the engine's gauges were out of date: calls were in flight, all of them still in prefill.

    vLLM sets its gauges after an engine step, so during the prefill of a single call they still show the state before
    it: a full pool would read 0.
    """
    prefills, rest = [], []
    for row in calls:
        start, end = _interval(row)
        first_token = start + (row["ttft_seconds"] or row["duration_seconds"])
        prefills.append(Span("prefill", start, first_token))
        rest.append(Span("decode", first_token, end))
    return [blind for each in busy_union(prefills, ALWAYS) for blind in pauses(busy_union(rest, each), each)]


def without_prefill(line: TimeSeries, calls: Iterable[Row]) -> TimeSeries:
    """Return an engine gauge without the instants at which it was out of date."""
    fresh = ~lies_in(line.times, blind_stretches(calls))
    return TimeSeries(line.times[fresh], line.values[fresh])


def blocks_of(tokens: int, block_size: int) -> int:
    """Return the KV cache blocks that `tokens` take."""
    return ceil(tokens / block_size)


def kv_by_hop(
    calls: Iterable[Row], used: TimeSeries, block_size: int, block_bytes: float, *, alone: bool
) -> dict[str, KvOfHop]:
    """Return KV bytes by hop: at the end of each call from the server's usage, and as sampled while it ran.

    Args:
        calls: calls that ended well.
        used: KV bytes in use.
        block_size: tokens per block.
        block_bytes: bytes per block.
        alone: whether one call runs at a time; otherwise samples belong to several hops and are left out.
    """
    found: dict[str, KvOfHop] = {}
    for hop, rows in sorted(group(calls, "hop").items()):
        # The last token is sampled but never fed back, so it has no entry in the cache.
        ends = [blocks_of(row["prompt_tokens"] + row["completion_tokens"] - 1, block_size) for row in rows]
        found[str(hop)] = {
            "calls": len(rows),
            "from_usage": spread(np.array(ends) * block_bytes),
            "sampled": spread(used.within([_interval(row) for row in rows])) if alone else {"n": 0},
        }
    return found


def fragmentation(
    blocks: TimeSeries, generated: TimeSeries, calls: Iterable[Row], block_size: int
) -> tuple[TimeSeries, Spread]:
    """Return the share of the slots in used blocks that is empty, over time, and its spread.

    internal fragmentation = 1 - live tokens / (blocks in use x block size). Paged attention has no external
    fragmentation: any free block serves any request. Live tokens are the prompt of the running call (the server's
    usage) and what it has generated so far (the engine's counter, from the same scrape as the blocks), less the last
    token, which has no entry yet. Instants without a call, before its first token, or where the counter does not match
    the call are left out.

    Args:
        blocks: blocks in use.
        generated: the engine's generated tokens, at the same instants, the first before any call.
        calls: calls that ended well, of which one runs at a time.
        block_size: tokens per block.
    """
    live = np.full(len(blocks.times), np.nan)
    before = float(generated.values[0]) if len(live) else 0.0
    for row in sorted(calls, key=lambda row: row["started_at"]):
        start, end = _interval(row)
        first_token = start + (row["ttft_seconds"] or row["duration_seconds"])
        if (waiting := generated.within([(start, first_token)])).size:
            before = float(waiting[0])  # also right after a call that failed without reporting its tokens
        own = generated.values - before
        inside = lies_in(blocks.times, [(first_token, end)])
        inside &= (own >= 1) & (own <= row["completion_tokens"]) & (blocks.values > 0)
        live[inside] = row["prompt_tokens"] + own[inside] - 1
        before += row["completion_tokens"]
    known = ~np.isnan(live)
    line = TimeSeries(blocks.times[known], 1 - live[known] / (blocks.values[known] * block_size))
    return line, spread(line.values)


def expected_fragmentation(calls: Sequence[Row], block_size: int) -> float | None:
    """Return the fragmentation that token counts alone predict: the mean over each token that the calls generated."""
    shares = [
        1 - tokens / (blocks_of(tokens, block_size) * block_size)
        for row in calls
        for tokens in range(row["prompt_tokens"], row["prompt_tokens"] + row["completion_tokens"])
        if tokens  # an empty prompt, as some servers report, takes no block
    ]
    return float(np.mean(shares)) if shares else None

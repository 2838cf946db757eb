"""Experiment 6: what do more questions at a time bring, and what do they cost? Two batch sizes of the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workload.analysis.ab import quality, quality_in_words
from workload.analysis.levels import scaling
from workload.analysis.levels_observed import measured_level
from workload.analysis.rate import estimators, in_words
from workload.analysis.wording import given, interval, number, percent
from workload.charts.concurrency import draw
from workload.experiment import Arm, Experiment, Point, levels
from workload.experiments.arrivals import poisson
from workload.statistics.percentiles import NEEDED

if TYPE_CHECKING:
    from workload.record.results import Row, RunData
    from workload.settings import LoadSettings
    from workload.statistics.throughput import Level

LOW, HIGH = Arm("low", "seqs-16"), Arm("high", "seqs-64-16k")
# Twice the largest level of the plan: an open loop beyond it measures its own queue.
MAX_IN_FLIGHT = 128
# A client that is late by more of a question's time than this has shaped the result.
SMALL_LAG = 0.01


def points(load: LoadSettings) -> tuple[Point, ...]:
    """Return a closed loop for each concurrency, then an open loop for each rate."""
    arrivals = {rate: poisson(rate, load.limit, load.seed) for rate in load.rate}
    opened = (Point(f"r{rate:g}", MAX_IN_FLIGHT, arrivals=found) for rate, found in arrivals.items())
    return (*levels(load), *opened)


def reduce(data: RunData) -> dict[str, Any]:
    """Return every level of both arms, and how each arm scales."""
    rows, scaled = [], {}
    for arm in (LOW.name, HIGH.name):
        full: list[Level] = []
        for point in dict.fromkeys(part.window.point for part in data.measured if part.window.arm == arm):
            row, part = measured_level(data, arm, point)
            rows.append(row)
            full += [part] if part else []
        scaled[arm] = scaling(full)
    for row in rows:
        row["efficiency"] = scaled[row["arm"]]["efficiency"].get(str(row["concurrency"]))
    return {"levels": rows, "scaling": scaled, "quality": {arm.name: quality(data, arm.name) for arm in (LOW, HIGH)}}


def load_name(row: Row) -> str:
    """Return a level in words."""
    return f"{row['concurrency']} at a time" if row["loop"] == "closed" else f"{row['rate']:g} a second"


def headline(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return a row of the closing table for each level."""
    return [_headline(row) for row in summary["levels"]]


def _headline(row: Row) -> tuple[str, ...]:
    done, efficiency, engine = row["throughput"], row["efficiency"], row["engine"]
    relative = ""
    if efficiency and row["concurrency"] > 1:
        relative = f"{percent(efficiency['efficiency'])}{interval(efficiency['ci'], percent)}"
    return (
        f"{row['arm']}, {load_name(row)}",
        in_words(done),
        number(done["over_whole_run"]),
        relative,
        " / ".join(map(_percentile, row["latency_seconds"])),
        f"{number(engine['waiting_peak'])}, {percent(engine['kv_usage_peak'])}",
        str(row["latency_seconds"][0]["n"]) if row["latency_seconds"] else "0",
    )


def _percentile(found: dict[str, Any]) -> str:
    return given(found["value"]) + ("" if found["ci"] or found["value"] is None else "*")


def verdicts(summary: dict[str, Any]) -> list[str]:
    """Return how the arms scale, and what a reader must know of the numbers."""
    rows = summary["levels"]
    sentences = [found for arm in (LOW.name, HIGH.name) for found in _scaling(summary, arm)]
    if any(not found["ci"] for row in rows for found in row["latency_seconds"]):
        sentences.append(
            f"* has no CI, - is no percentile: too few questions ({NEEDED}); --num-requests 300 gives all."
        )
    queued = [f"{row['arm']}, {load_name(row)}" for row in rows if (row["engine"]["waiting_mean"] or 0) > 1]
    sentences.append(f"More than one call waited on average: {'; '.join(queued) or 'at no level'}.")
    sentences.append(estimators(row["throughput"] for row in rows))
    clocks = [row["call_seconds"]["client_over_engine"] for row in rows if row["call_seconds"]]
    if clocks:
        apart = percent(max(clocks, key=abs), signed=True)
        sentences.append(
            f"Of the calls' time the client's clock sees {apart} against the engine's, where they are furthest apart. "
            "Little's law holds by construction here, and checks nothing."
        )
    told = [row["send_lag_seconds"]["share"] for row in rows if row["send_lag_seconds"]]
    lags = [share for share in told if share is not None]
    if lags:
        size = "small" if max(lags) <= SMALL_LAG else "NOT SMALL: the client shapes the result"
        sentences.append(f"The client sends {percent(max(lags))} of a question's time late at the most: {size}.")
    shares = [row["cached_share"] for row in rows if row["cached_share"] is not None]
    if shares:
        low, high = percent(min(shares)), percent(max(shares))
        sentences.append(
            f"Every level has a cache salt of its own; its own cache served {low} to {high} of its tokens."
        )
    preempted = [row["engine"]["preemptions"] for row in rows]
    sentences.append(f"Preemptions: {number(None if None in preempted else sum(preempted))}.")
    counts = [one for row in rows for one in row["accounting"]]
    failed, dropped = (sum(sum(one["failed"].values()) for one in counts), sum(one["dropped"] for one in counts))
    sentences.append(f"{sum(one['sent'] for one in counts)} questions sent, {failed} failed, {dropped} dropped.")
    return [*sentences, quality_in_words(summary["quality"])]


def _scaling(summary: dict[str, Any], arm: str) -> list[str]:
    scaled = summary["scaling"][arm]
    rows = [row for row in summary["levels"] if row["arm"] == arm and row["loop"] == "closed"]
    rows = [row for row in rows if row["throughput"]["per_second"] is not None]
    if not rows:
        return [f"{arm}: no level was ever at its concurrency."]
    best = max(rows, key=lambda row: row["throughput"]["per_second"])
    gained = f"; efficiency {percent(best['efficiency']['efficiency'])}" if best["efficiency"] else ""
    most = (
        f"{arm}: most questions a second, {number(best['throughput']['per_second'])}, with {load_name(best)}{gained}."
    )
    if law := scaled["usl"]:
        peak = f"the law's peak is at {number(law['peak'])}" if law["peak"] else "the law has no peak"
        return [most, f"{arm}: contention {percent(law['contention'])}, coherence {percent(law['coherence'])}; {peak}."]
    return [most, f"{arm}: no scalability law: {scaled['no_usl']}."]


CONCURRENCY = Experiment(
    name="concurrency",
    folder="concurrency",
    title="What does higher concurrency gain?",
    arms=(LOW, HIGH),
    points=points,
    reduce=reduce,
    draw=draw,
    headline=headline,
    columns=("load", "a second", "over the\nwhole run", "efficiency", "P50 / P95 / P99, s", "queue, KV peak", "n"),
    verdicts=verdicts,
    limit=20,
    max_hops=3,
    k=10,
    concurrency=(1, 2, 4, 8),
    summary_file="concurrency.json",
)

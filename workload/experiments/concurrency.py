"""Experiment 6: what do more concurrent questions gain, and what do they cost? Two batch sizes of the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workload.analysis.ab import quality, quality_in_words
from workload.analysis.levels import Scaling, scaling
from workload.analysis.levels_observed import LevelRow, measured_level
from workload.analysis.rate import estimators, in_words
from workload.analysis.wording import Bookkeeping, Caveat, given, interval, number, percent, sent
from workload.charts.concurrency import draw
from workload.experiment import Arm, Experiment, Point, levels
from workload.experiments.arrivals import poisson
from workload.statistics.percentiles import NEEDED, Percentile

if TYPE_CHECKING:
    from workload.analysis.summaries import ConcurrencySummary
    from workload.record.results import RunData
    from workload.settings import LoadSettings
    from workload.statistics.throughput import Level

LOW, HIGH = Arm("low", "seqs-16"), Arm("high", "seqs-64-16k")
# Twice the largest default level: beyond it an open loop measures its own queue.
MAX_IN_FLIGHT = 128
# A client whose lag is a larger share of the latency has shaped the result.
SMALL_LAG = 0.01


def points(load: LoadSettings) -> tuple[Point, ...]:
    """Return a closed loop for each concurrency, then an open loop for each rate."""
    arrivals = {rate: poisson(rate, load.limit, load.seed) for rate in load.rate}
    opened = (Point(f"r{rate:g}", MAX_IN_FLIGHT, arrivals=found) for rate, found in arrivals.items())
    return (*levels(load), *opened)


def reduce(data: RunData) -> ConcurrencySummary:
    """Return every level of both arms, and how each arm scales."""
    rows: list[LevelRow] = []
    scaled: dict[str, Scaling] = {}
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


def load_name(row: LevelRow) -> str:
    """Return a level in words."""
    return f"{row['concurrency']} at a time" if row["loop"] == "closed" else f"{row['rate']:g} per second"


def headline(summary: ConcurrencySummary) -> list[tuple[str, ...]]:
    """Return a row of the closing table for each level."""
    return [_headline(row) for row in summary["levels"]]


def _headline(row: LevelRow) -> tuple[str, ...]:
    done, efficiency, engine = row["throughput"], row["efficiency"], row["engine"]
    relative = ""
    if efficiency and (row["concurrency"] or 0) > 1:
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


def _percentile(found: Percentile) -> str:
    return given(found["value"]) + ("" if found["ci"] or found["value"] is None else "*")


def verdicts(summary: ConcurrencySummary) -> list[str]:
    """Return how the arms scale, and what a reader must know about the numbers."""
    rows = summary["levels"]
    sentences = [found for arm in (LOW.name, HIGH.name) for found in _scaling(summary, arm)]
    if any(not found["ci"] for row in rows for found in row["latency_seconds"]):
        sentences.append(
            Caveat(
                f"* marks a percentile without a CI, - one that is not given: too few questions ({NEEDED}); "
                "--num-requests 300 gives all of them."
            )
        )
    queued = [f"{row['arm']}, {load_name(row)}" for row in rows if (row["engine"]["waiting_mean"] or 0) > 1]
    sentences.append(f"More than one call waited on average: {'; '.join(queued) or 'at no level'}.")
    sentences.append(Bookkeeping(estimators(row["throughput"] for row in rows)))
    clocks = [row["call_seconds"]["client_over_engine"] for row in rows if row["call_seconds"]]
    if clocks:
        apart = percent(max(clocks, key=abs), signed=True)
        sentences.append(
            Bookkeeping(
                f"The calls' time by the client's clock differs from the engine's by at most {apart}. "
                "Little's law holds by construction here and is not a check."
            )
        )
    known = [row["send_lag_seconds"]["share"] for row in rows if row["send_lag_seconds"]]
    lags = [share for share in known if share is not None]
    if lags:
        size = "negligible" if max(lags) <= SMALL_LAG else "NOT NEGLIGIBLE, so the client shapes the result"
        sentences.append(
            Bookkeeping(f"Client send lag is at most {percent(max(lags))} of a question's latency: {size}.")
        )
    shares = [row["cached_share"] for row in rows if row["cached_share"] is not None]
    if shares:
        low, high = percent(min(shares)), percent(max(shares))
        sentences.append(
            f"Every level has its own cache salt; its own cache served {low} to {high} of its prompt tokens."
        )
    preempted = [row["engine"]["preemptions"] for row in rows]
    sentences.append(f"Preemptions: {number(None if None in preempted else sum(filter(None, preempted)))}.")
    windows = [window for row in rows for window in row["accounting"]]
    sentences.append(Bookkeeping(f"{sent(windows)}, {sum(window['dropped'] for window in windows)} dropped."))
    return [*sentences, quality_in_words(summary["quality"])]


def _scaling(summary: ConcurrencySummary, arm: str) -> list[str]:
    scaled = summary["scaling"][arm]
    rows = [row for row in summary["levels"] if row["arm"] == arm and row["loop"] == "closed"]
    rows = [row for row in rows if row["throughput"]["per_second"] is not None]
    if not rows:
        return [f"{arm}: no level ever reached its concurrency."]
    best = max(rows, key=lambda row: row["throughput"]["per_second"] or 0.0)
    gained = f"; efficiency {percent(best['efficiency']['efficiency'])}" if best["efficiency"] else ""
    most = (
        f"{arm}: the highest rate is {number(best['throughput']['per_second'])} questions per second, with "
        f"{load_name(best)}{gained}."
    )
    if law := scaled["usl"]:
        peak = f"its peak is at {number(law['peak'])} questions at a time" if law["peak"] else "it has no peak"
        parameters = f"contention {percent(law['contention'])}, coherence {percent(law['coherence'])}"
        return [most, f"{arm}: the Universal Scalability Law has {parameters}; {peak}."]
    return [most, f"{arm}: the Universal Scalability Law cannot be fitted: {scaled['no_usl']}."]


CONCURRENCY = Experiment(
    name="concurrency",
    folder="concurrency",
    title="What does higher concurrency gain?",
    arms=(LOW, HIGH),
    points=points,
    reduce=reduce,
    draw=draw,
    headline=headline,
    columns=("load", "per second", "over the\nwhole run", "efficiency", "P50 / P95 / P99, s", "queue, KV peak", "n"),
    verdicts=verdicts,
    limit=20,
    concurrency=(1, 2, 4, 8),
    summary_file="concurrency.json",
)

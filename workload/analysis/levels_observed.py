"""Reads the levels of a run: the journal's questions and calls, and what Prometheus saw of the engine meanwhile."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from workload.analysis import levels
from workload.analysis.ab import quality
from workload.analysis.latency import distribution
from workload.analysis.time_series import TimeSeries, kv_usage, peak_of, summed
from workload.promql.concurrency import PREEMPTIONS, RUNNING_CALLS, WAITING_CALLS
from workload.promql.gpu_memory import FAST_JOB, RESIDENT
from workload.promql.vllm_metrics import IN_SYSTEM_SECONDS
from workload.record.results import total

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workload.record.results import Measured, RunData
    from workload.statistics.throughput import Level

ENGINE = (
    "running_peak",
    "waiting_peak",
    "waiting_mean",
    "preemptions",
    "kv_usage_peak",
    "kv_bytes_peak",
    "device_bytes_peak",
    "resident_bytes_peak",
)


def measured_level(data: RunData, arm: str, point: str) -> tuple[dict[str, Any], Level | None]:
    """Return what is known of one level of an arm, and what it did while full if its loop is closed."""
    measured = [part for part in data.measured if (part.window.arm, part.window.point) == (arm, point)]
    questions = [row for row in data.questions if (row["arm"], row["phase"]) == (arm, point)]
    calls = [row for row in data.calls if (row["arm"], row["phase"]) == (arm, point)]
    good = [call for call in calls if call["outcome"] == "ok"]
    loop, amount = levels.load_of(point)
    part, counted = levels.full_part(questions, int(amount)) if loop == "closed" else (None, questions)
    engine = [_engine(data, one) for one in measured]
    windows, in_windows = [one.window for one in measured], [call for call in calls if call["is_windowed"]]
    in_system = [one.counters.get(IN_SYSTEM_SECONDS) for one in measured]
    first = [call["ttft_seconds"] for call in good if call["ttft_seconds"] is not None]
    prompt, cached = total(good, "prompt_tokens"), total(good, "cached_tokens")
    row = {
        "arm": arm,
        "loop": loop,
        "concurrency": int(amount) if loop == "closed" else None,
        "rate": amount if loop == "open" else None,
        "accounting": [dict(one.accounting) for one in measured],
        "throughput": levels.throughput(part, questions) if loop == "closed" else levels.open_part(questions),
        "latency_seconds": levels.latencies(counted),
        "time_to_first_token_seconds": distribution(first),
        "send_lag_seconds": levels.send_lag(questions, loop),
        "call_seconds": levels.call_seconds(in_system, in_windows, windows),
        "engine": _worst(engine),
        "cached_share": cached / prompt if cached is not None and prompt else None,
        "quality": quality(replace(data, questions=questions), arm),
    }
    return row, part


def _engine(data: RunData, measured: Measured) -> dict[str, Any]:
    """Return what Prometheus saw of the engine in one window; None for what it did not see."""
    evidence, window, facts = data.evidence, measured.window, measured.engine
    if evidence is None:
        return dict.fromkeys(ENGINE)
    running = levels.extent(evidence.stored(RUNNING_CALLS, window, job=FAST_JOB))
    waiting = levels.extent(evidence.stored(WAITING_CALLS, window, job=FAST_JOB))
    usage = kv_usage(evidence, window)
    in_use = levels.extent(usage)
    resident = levels.extent(evidence.stored(RESIDENT, window, role="engine"))
    device = summed([TimeSeries(samples.times, samples.used) for samples in evidence.gpu_samples(measured).values()])
    blocks, block_bytes = facts.get("num_gpu_blocks"), facts.get("kv_block_bytes")
    pool = (blocks - 1) * block_bytes if blocks and block_bytes else None  # one block is the null block
    return {
        "running_peak": running and running["peak"],
        "waiting_peak": waiting and waiting["peak"],
        "waiting_mean": waiting and waiting["mean"],
        "preemptions": measured.counters.get(PREEMPTIONS),
        # of several engines the share of the fullest pool, and the bytes of all pools at one instant
        "kv_usage_peak": max((top for one in usage if (top := peak_of(one.values)) is not None), default=None),
        "kv_bytes_peak": in_use["peak"] * pool if in_use and pool else None,
        "device_bytes_peak": peak_of(device.values),
        "resident_bytes_peak": resident and resident["peak"],
    }


def _worst(engine: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Return the highest value of each kind over a level's windows, and the sum of its preemptions."""
    found = {key: [seen[key] for seen in engine] for key in ENGINE}
    return {
        key: None if None in values or not values else sum(values) if key == "preemptions" else max(values)
        for key, values in found.items()
    }

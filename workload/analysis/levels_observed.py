"""The load levels of a run: from the journal's questions and calls, and from Prometheus's samples of the engine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict, cast

from workload.analysis import levels
from workload.analysis.ab import Quality, quality
from workload.analysis.latency import distribution
from workload.analysis.time_series import TimeSeries, kv_usage, peak_of, summed
from workload.promql.concurrency import PREEMPTIONS, RUNNING_CALLS, WAITING_CALLS
from workload.promql.gpu_memory import FAST_JOB, RESIDENT
from workload.promql.vllm_metrics import IN_SYSTEM_SECONDS
from workload.record.results import Measured, RunData, total

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workload.analysis.levels import CallSeconds, Loop, SendLag
    from workload.analysis.rate import Rate
    from workload.statistics.percentiles import Percentile
    from workload.statistics.throughput import Efficiency, Level


class EngineExtremes(TypedDict):
    """The extremes of one level in the engine; None where Prometheus has no samples.

    With several engines `kv_usage_peak` is the usage of the fullest pool, and `kv_bytes_peak` the bytes of all pools at
    one instant.
    """

    running_peak: float | None
    waiting_peak: float | None
    waiting_mean: float | None
    preemptions: float | None
    kv_usage_peak: float | None
    kv_bytes_peak: float | None
    device_bytes_peak: float | None
    resident_bytes_peak: float | None


class LevelRow(TypedDict):
    """One level of an arm; see `workload.analysis.levels`.

    `concurrency` is None in an open loop, `rate` (questions per second) in a closed one. `efficiency` is against one
    question at a time.
    """

    arm: str
    loop: Loop
    concurrency: int | None
    rate: float | None
    accounting: list[dict[str, Any]]
    throughput: Rate
    latency_seconds: list[Percentile]
    time_to_first_token_seconds: list[Percentile]
    send_lag_seconds: SendLag | None
    call_seconds: CallSeconds | None
    engine: EngineExtremes
    cached_share: float | None
    quality: Quality
    efficiency: Efficiency | None


def measured_level(data: RunData, arm: str, point: str) -> tuple[LevelRow, Level | None]:
    """Return one level of an arm, with a closed loop's requests while all its workers were busy."""
    measured = [part for part in data.measured if (part.window.arm, part.window.point) == (arm, point)]
    questions = [row for row in data.questions if (row["arm"], row["phase"]) == (arm, point)]
    calls = [row for row in data.calls if (row["arm"], row["phase"]) == (arm, point)]
    good = [call for call in calls if call["outcome"] == "ok"]
    loop, amount = levels.load_of(point)
    part, counted = levels.full_part(questions, int(amount)) if loop == "closed" else (None, questions)
    engine: list[Mapping[str, Any]] = [_engine(data, one) or {} for one in measured]
    windows, in_windows = [one.window for one in measured], [call for call in calls if call["is_windowed"]]
    in_system = [one.counters.get(IN_SYSTEM_SECONDS) for one in measured]
    first = [call["ttft_seconds"] for call in good if call["ttft_seconds"] is not None]
    prompt, cached = total(good, "prompt_tokens"), total(good, "cached_tokens")
    row: LevelRow = {
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
        "efficiency": None,
    }
    return row, part


def _engine(data: RunData, measured: Measured) -> EngineExtremes | None:
    """Return the extremes in one window; None without evidence."""
    evidence, window, facts = data.evidence, measured.window, measured.engine
    if evidence is None:
        return None
    running, _ = levels.extent(evidence.stored(RUNNING_CALLS, window, job=FAST_JOB))
    waiting, mean_waiting = levels.extent(evidence.stored(WAITING_CALLS, window, job=FAST_JOB))
    usage = kv_usage(evidence, window)
    in_use, _ = levels.extent(usage)
    resident, _ = levels.extent(evidence.stored(RESIDENT, window, role="engine"))
    device = summed([TimeSeries(samples.times, samples.used) for samples in evidence.gpu_samples(measured).values()])
    blocks, block_bytes = facts.get("num_gpu_blocks"), facts.get("kv_block_bytes")
    pool = (blocks - 1) * block_bytes if blocks and block_bytes else None  # vLLM never uses its null block
    return {
        "running_peak": running,
        "waiting_peak": waiting,
        "waiting_mean": mean_waiting,
        "preemptions": measured.counters.get(PREEMPTIONS),
        "kv_usage_peak": max((top for one in usage if (top := peak_of(one.values)) is not None), default=None),
        "kv_bytes_peak": in_use * pool if in_use is not None and pool else None,
        "device_bytes_peak": peak_of(device.values),
        "resident_bytes_peak": resident,
    }


def _worst(windows: Sequence[Mapping[str, Any]]) -> EngineExtremes:
    """Return the highest value of each kind over a level's windows, and the sum of its preemptions."""
    found: dict[str, list[Any]] = {key: [seen.get(key) for seen in windows] for key in EngineExtremes.__annotations__}
    whole = {key: values for key, values in found.items() if values and None not in values}
    worst = {key: sum(values) if key == "preemptions" else max(values) for key, values in whole.items()}
    return cast("EngineExtremes", {key: worst.get(key) for key in found})

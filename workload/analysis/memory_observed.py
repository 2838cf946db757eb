"""The memory samples of one load: device memory, the engine's resident memory, and its KV pool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workload.analysis.memory import without_prefill
from workload.analysis.time_series import TimeSeries, kv_usage, summed
from workload.promql.gpu_memory import FAST_JOB, GENERATED, GPU_INFO, REFRESH, RESIDENT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workload.analysis.spans import MeasuredLoad
    from workload.record.evidence import Evidence


@dataclass(frozen=True, kw_only=True)
class ObservedMemory:
    """The time series of one load, in bytes unless the name says otherwise; `blocks` and `generated` span the window.

    Attributes:
        load: the load.
        device: memory used, by GPU; a GPU with fewer than two samples is left out.
        duty: the polled duty cycle by GPU, 0 to 1.
        refresh_seconds: how often the driver updates the duty cycle; None where it does not report that.
        backend: `nvml`, or `replay` for a recorded trace; None without a GPU.
        gpu_names: the name of each GPU that served, in the order of `device`; empty without one.
        gpus_seen: all GPUs of the host, whichever process used them.
        resident: resident memory of the engine's processes.
        blocks: blocks of the KV pool in use; empty where the engine does not report usage or the pool's size.
        used: the same in bytes, where the gauge is up to date; see `without_prefill`.
        generated: tokens that the engine has generated since it started, at the instants of `blocks`.
    """

    load: MeasuredLoad
    device: Mapping[str, TimeSeries]
    duty: Mapping[str, TimeSeries]
    refresh_seconds: float | None
    backend: str | None
    gpu_names: Sequence[str]
    gpus_seen: Sequence[str]
    resident: TimeSeries
    blocks: TimeSeries
    used: TimeSeries
    generated: TimeSeries

    @property
    def without_device(self) -> str:
        """Why there is no device memory, in words."""
        if not self.gpus_seen:
            return "No GPU"
        if len(self.gpus_seen) == 1:
            return f"GPU {self.gpus_seen[0]} has fewer than two samples"
        return f"GPU unknown: the exporter cannot tell which of GPUs {', '.join(self.gpus_seen)} the engine uses"


def observe_memory(evidence: Evidence, load: MeasuredLoad) -> ObservedMemory:
    """Return the memory samples of a load.

    Raises:
        PrometheusError: Prometheus failed.
    """
    window, engine = load.window, load.measured.engine
    start, end = load.interval
    seen = {gpu: found.within(start, end) for gpu, found in evidence.gpu_samples(load.measured).items()}
    samples = {gpu: found for gpu, found in seen.items() if len(np.unique(found.times)) > 1}
    info = {series.labels["gpu"]: series.labels for series in (evidence.stored(GPU_INFO, window) if samples else ())}
    refresh = [series for series in evidence.stored(REFRESH, window) if series.labels.get("gpu") in samples]
    blocks, generated = _blocks(evidence, load)
    block_bytes = engine.get("kv_block_bytes")
    used = TimeSeries(blocks.times, blocks.values * block_bytes) if block_bytes else TimeSeries.empty()
    return ObservedMemory(
        load=load,
        device={gpu: TimeSeries(found.times, found.used) for gpu, found in samples.items()},
        duty={gpu: TimeSeries(found.times, found.utilization) for gpu, found in samples.items()},
        refresh_seconds=float(np.median(refresh[0].values)) if refresh else None,
        backend=next((info[gpu]["backend"] for gpu in samples if gpu in info), None),
        gpu_names=[info[gpu]["name"] if gpu in info else "" for gpu in samples],
        gpus_seen=list(evidence.seen_gpus(window)),
        resident=summed(evidence.stored(RESIDENT, window, role="engine")).clipped(load.interval),
        blocks=blocks,
        used=without_prefill(used, load.calls).clipped(load.interval),
        generated=generated,
    )


def _blocks(evidence: Evidence, load: MeasuredLoad) -> tuple[TimeSeries, TimeSeries]:
    """Return blocks in use and tokens generated at the instants of scrapes that have both."""
    count = load.measured.engine.get("num_gpu_blocks")
    usage = kv_usage(evidence, load.window)
    generated = summed(evidence.stored(GENERATED, load.window, job=FAST_JOB))
    if not count or not usage:
        return TimeSeries.empty(), TimeSeries.empty()
    share = summed(usage)
    times, left, right = np.intersect1d(share.times, generated.times, return_indices=True)
    # one block of the pool is the null block, which usage leaves out
    return TimeSeries(times, np.rint(share.values[left] * (count - 1))), TimeSeries(times, generated.values[right])

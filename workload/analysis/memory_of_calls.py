"""The memory of each call while it ran: the journal's calls joined by time with the gauges of engine and host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workload.analysis.kv_growth import KvUse, tokens_of
from workload.analysis.time_series import TimeSeries, kv_usage, peak_of, summed
from workload.promql.concurrency import PREEMPTIONS, WAITING_CALLS
from workload.promql.gpu_memory import FAST_JOB, RESIDENT
from workload.record.results import Measured, Row, RunData, calls_with_usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from workload.record.evidence import Evidence
    from workload.services.prometheus import Series

# A call counts as queued only if it waits in more than this share of its samples, not in one of them by chance.
MOSTLY = 0.5


@dataclass(frozen=True)
class CallMemory:
    """One call: blocks of the KV pool in use while it decoded, and memory in bytes; None without a sample.

    `memory_bytes` is the peak of the sum over the GPUs that served, or, if none is known, of the resident memory of the
    engine's processes.
    """

    call: Row
    blocks: float | None
    memory_bytes: float | None
    is_preempted: bool
    is_queued: bool

    @property
    def kv_use(self) -> KvUse | None:
        """The call's use of the KV cache; None if it is unknown."""
        if self.blocks is None or not calls_with_usage([self.call]):
            return None
        return KvUse(tokens_of(self.call), self.blocks)


def memory_of_calls(data: RunData, arm: str) -> list[CallMemory]:
    """Return the memory of each successful call of an arm in a closed window, in order.

    Only while a call decodes does it certainly have all of its blocks, and the gauge certainly show its own: during
    prefill it grows chunk by chunk, and the gauge may still show the previous call.

    Raises:
        PrometheusError: Prometheus failed.
    """
    if data.evidence is None:
        return []
    found = []
    for measured in (part for part in data.measured if part.window.arm == arm):
        window = measured.window
        calls = [
            call
            for call in data.calls_of(arm)
            if (call["block"], call["phase"], call["segment"]) == (window.block, window.point, window.segment)
        ]
        found += _in_window(data.evidence, measured, calls)
    return found


def _in_window(evidence: Evidence, measured: Measured, calls: Sequence[Row]) -> list[CallMemory]:
    window = measured.window
    usage = _one(kv_usage(evidence, window))
    waiting = _one(evidence.stored(WAITING_CALLS, window, job=FAST_JOB))
    preempted = _one(evidence.stored(PREEMPTIONS, window, job=FAST_JOB))
    device = [TimeSeries(gpu.times, gpu.used) for gpu in evidence.gpu_samples(measured).values()]
    resident = [] if device else evidence.stored(RESIDENT, window, role="engine")
    memory = summed(device or resident)
    blocks = measured.engine.get("num_gpu_blocks")
    # one block of the pool is the null block, which usage leaves out
    in_use = TimeSeries(usage.times, np.rint(usage.values * (blocks - 1))) if blocks else TimeSeries.empty()
    return [
        CallMemory(
            call,
            peak_of(during(call, in_use, decoding=True)),
            peak_of(during(call, memory)),
            is_preempted=_rises(call, preempted),
            is_queued=bool((during(call, waiting) >= 1).mean() > MOSTLY) if during(call, waiting).size else False,
        )
        for call in calls
    ]


def during(call: Row, series: TimeSeries, *, decoding: bool = False) -> NDArray[np.float64]:
    """Return the samples of a gauge while a call ran, or only after its first token; shape (n,), n may be 0."""
    start = call["started_at"] + (call["ttft_seconds"] or 0.0 if decoding else 0.0)
    return series.clipped((start, call["started_at"] + call["duration_seconds"])).values


def _one(series: Sequence[Series]) -> TimeSeries:
    """Return the only series of a gauge; empty with several engines, because a call cannot be matched with one."""
    return summed(series) if len(series) == 1 else TimeSeries.empty()


def _rises(call: Row, counter: TimeSeries) -> bool:
    """Return whether a counter rose from the last sample before a call to the first one after it."""
    if not counter.times.size:
        return False
    first = max(int(np.searchsorted(counter.times, call["started_at"])) - 1, 0)
    end = call["started_at"] + call["duration_seconds"]
    last = min(int(np.searchsorted(counter.times, end)), len(counter.times) - 1)
    return bool(counter.values[last] > counter.values[first])

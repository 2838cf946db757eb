"""What each call held while it ran: the journal's calls joined by time with the gauges of the engine and the host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workload.analysis.context import during
from workload.analysis.kv_growth import Held, tokens_of
from workload.analysis.memory import Line, summed
from workload.promql.concurrency import PREEMPTIONS, WAITING_CALLS
from workload.promql.gpu_memory import FAST_JOB, KV_USAGE_NAMES, RESIDENT
from workload.record.results import calls_with_usage
from workload.services.prometheus import Series

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from workload.record.evidence import Evidence
    from workload.record.results import Measured, Row, RunData

# A call that waits is in the queue at most of the instants at which it is seen, not at one of them by chance.
MOSTLY = 0.5
SILENCE = Series({}, np.empty(0), np.empty(0))


@dataclass(frozen=True)
class Footprint:
    """One call: blocks of the KV pool in use while it decoded, and memory in bytes; None for what nobody saw.

    `memory_bytes` is the peak of the sum over the GPUs that served, or where none is known the resident memory of the
    engine's processes.
    """

    call: Row
    blocks: float | None
    memory_bytes: float | None
    is_preempted: bool
    is_queued: bool

    @property
    def held(self) -> Held | None:
        """The call as a witness of the KV cache's growth."""
        return (
            Held(tokens_of(self.call), self.blocks)
            if self.blocks is not None and calls_with_usage([self.call])
            else None
        )


def footprints(data: RunData, arm: str) -> list[Footprint]:
    """Return the footprint of each successful call of an arm that was measured in a closed window, in order.

    Only while it decodes does a call surely hold all of its blocks, and is the engine's gauge surely its own: in the
    prefill it grows chunk by chunk, and at first the last value of the call before may still stand.

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


def _in_window(evidence: Evidence, measured: Measured, calls: Sequence[Row]) -> list[Footprint]:
    window = measured.window
    usage = next((line for name in KV_USAGE_NAMES if (line := _one(evidence.stored(name, window, job=FAST_JOB)))), None)
    waiting = _one(evidence.stored(WAITING_CALLS, window, job=FAST_JOB)) or SILENCE
    preempted = _one(evidence.stored(PREEMPTIONS, window, job=FAST_JOB)) or SILENCE
    device = [Line(gpu.times, gpu.used) for gpu in evidence.gpu_samples(measured).values()]
    resident = [] if device else evidence.stored(RESIDENT, window, role="engine")
    whole = summed(device or [Line(found.times, found.values) for found in resident])
    memory = Series({}, whole.times, whole.values)
    blocks = measured.engine.get("num_gpu_blocks")
    # one block of the pool is the null block, which usage leaves out
    in_use = Series({}, usage.times, np.rint(usage.values * (blocks - 1))) if usage and blocks else SILENCE
    return [
        Footprint(
            call,
            _peak(during(call, in_use, decoding=True)),
            _peak(during(call, memory)),
            is_preempted=_rises(call, preempted),
            is_queued=bool((during(call, waiting) >= 1).mean() > MOSTLY) if during(call, waiting).size else False,
        )
        for call in calls
    ]


def _one(series: Sequence[Series]) -> Series | None:
    """Return the only series of a gauge; with several engines none can be credited with a call."""
    return series[0] if len(series) == 1 else None


def _peak(values: NDArray[np.float64]) -> float | None:
    return float(values.max()) if values.size else None


def _rises(call: Row, counter: Series) -> bool:
    """Return whether a counter rose from the last sample before a call to the first one after it."""
    if not counter.times.size:
        return False
    first = max(int(np.searchsorted(counter.times, call["started_at"])) - 1, 0)
    end = call["started_at"] + call["duration_seconds"]
    last = min(int(np.searchsorted(counter.times, end)), len(counter.times) - 1)
    return bool(counter.values[last] > counter.values[first])

"""The API processes of one vLLM: some releases export a series per process, with a label `pid`."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from workload.services.prometheus import Series

if TYPE_CHECKING:
    from collections.abc import Sequence

OF_VLLM = "vllm:"
COUNTER = "_total"
PROCESS = "pid"


def joined(metric: str, found: Sequence[Series]) -> list[Series]:
    """Return one series per engine, at the times of the samples of any of its processes.

    The recording rules do the same: counters of processes are summed; of gauges, each process exports the engine's
    value or 0, so the largest counts. Series of other programs keep their `pid`.
    """
    if not metric.startswith(OF_VLLM):
        return list(found)
    parts: dict[tuple[tuple[str, str], ...], list[Series]] = defaultdict(list)
    for series in found:
        parts[tuple(sorted((name, value) for name, value in series.labels.items() if name != PROCESS))].append(series)
    return [series[0] if len(series) == 1 else _one(metric, dict(labels), series) for labels, series in parts.items()]


def _one(metric: str, labels: dict[str, str], parts: Sequence[Series]) -> Series:
    times = np.unique(np.concatenate([part.times for part in parts]))
    table = np.zeros((len(parts), len(times)))
    for row, part in zip(table, parts, strict=True):
        row[np.searchsorted(times, part.times)] = part.values
    return Series(labels, times, table.sum(axis=0) if metric.endswith(COUNTER) else table.max(axis=0))

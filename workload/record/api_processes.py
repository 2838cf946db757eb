"""The API processes of one vLLM: where a release does not join their series, a label `pid` tells them apart."""

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
    """Return the series of each engine as one, at the instants at which any of its processes showed it.

    As the recorded names do it: what its processes count is added up, of a gauge each tells the whole, or 0. Series of
    others keep their `pid`, which tells processes apart that are not one server.
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

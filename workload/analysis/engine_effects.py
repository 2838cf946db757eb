"""What an engine's flags change inside it, where device memory shows nothing: the pool, its peak, its stutter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workload.promql.gpu_memory import KV_USAGE_NAMES
from workload.promql.vllm_metrics import ITL_BUCKETS
from workload.statistics.percentiles import is_given

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from workload.record.results import RunData
    from workload.record.window import Window


def engine_effects(data: RunData, arm: str) -> dict[str, Any]:
    """Return an arm's pool in blocks, the peak of its use (0 to 1) and the 99th percentile of inter-token latency (s).

    The latency is an upper bound of the histogram bucket that it lies in, for vLLM's buckets are coarse. None where the
    engine does not tell.
    """
    parts = [part for part in data.measured if part.window.arm == arm]
    pools = {part.engine.get("num_gpu_blocks") for part in parts}
    windows = [part.window for part in parts]
    counts = _added(_buckets(data, window) for window in windows)
    return {
        "num_gpu_blocks": pools.pop() if len(pools) == 1 else None,
        "kv_usage_peak": max(filter(None, (_peak(data, window) for window in windows)), default=None),
        "inter_token_latency_p99_at_most": quantile_at_most(counts, 0.99),
    }


def quantile_at_most(counts: Mapping[float, float], share: float) -> float | None:
    """Return the upper edge of the bucket that holds a quantile; None for too few values, or beyond the last edge.

    Args:
        counts: cumulative counts by upper edge, as Prometheus keeps them.
        share: of the quantile, 0 to 1.
    """
    edges = sorted(counts)
    if not edges or not is_given(counts[edges[-1]], share):
        return None
    found = next(edge for edge in edges if counts[edge] >= share * counts[edges[-1]])
    return found if np.isfinite(found) else None


def _buckets(data: RunData, window: Window) -> dict[float, float]:
    if data.evidence is None:
        return {}
    found: dict[float, float] = {}
    for sample in data.evidence.increases(ITL_BUCKETS, window, job="vllm"):
        edge = float(sample.labels["le"])
        found[edge] = found.get(edge, 0.0) + sample.value
    return found


def _added(parts: Iterable[Mapping[float, float]]) -> dict[float, float]:
    total: dict[float, float] = {}
    for part in parts:
        for edge, count in part.items():
            total[edge] = total.get(edge, 0.0) + count
    return total


def _peak(data: RunData, window: Window) -> float | None:
    if data.evidence is None:
        return None
    for name in KV_USAGE_NAMES:
        if series := data.evidence.stored(name, window, job="vllm-fast"):
            return float(max(np.nanmax(one.values) for one in series))
    return None

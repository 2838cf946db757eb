"""Effects of flags inside the engine that device memory does not show: KV pool, peak usage, inter-token latency."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np

from workload.analysis.time_series import kv_usage, peak_of
from workload.promql.vllm_metrics import ITL_BUCKETS
from workload.statistics.percentiles import is_given

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from workload.record.evidence import Evidence
    from workload.record.results import RunData
    from workload.record.window import Window


class EngineEffects(TypedDict):
    """The pool in blocks, the peak of its usage (0 to 1), and the 99th percentile of inter-token latency (s).

    The latency is the upper edge of its histogram bucket, because vLLM's buckets are coarse. None where the engine does
    not report it.
    """

    num_gpu_blocks: int | None
    kv_usage_peak: float | None
    inter_token_latency_p99_at_most: float | None


def engine_effects(data: RunData, arm: str) -> EngineEffects:
    """Return the effects of an arm's flags inside the engine."""
    parts = [part for part in data.measured if part.window.arm == arm]
    pools = {part.engine.get("num_gpu_blocks") for part in parts}
    windows = [part.window for part in parts]
    usage = [one for window in windows for one in kv_usage(data.evidence, window)] if data.evidence else []
    counts = _buckets(data.evidence, windows) if data.evidence else {}
    return {
        "num_gpu_blocks": pools.pop() if len(pools) == 1 else None,
        "kv_usage_peak": max(filter(None, (peak_of(one.values) for one in usage)), default=None),
        "inter_token_latency_p99_at_most": quantile_at_most(counts, 0.99),
    }


def quantile_at_most(counts: Mapping[float, float], share: float) -> float | None:
    """Return the upper edge of a quantile's bucket; None for too few values, or beyond the last edge.

    `counts` are cumulative by upper edge, as Prometheus keeps them; `share` is that of the quantile, 0 to 1.
    """
    edges = sorted(counts)
    if not edges or not is_given(counts[edges[-1]], share):
        return None
    found = next(edge for edge in edges if counts[edge] >= share * counts[edges[-1]])
    return found if np.isfinite(found) else None


def _buckets(evidence: Evidence, windows: Iterable[Window]) -> dict[float, float]:
    """Return the cumulative counts of inter-token latency over all windows, by upper edge in seconds."""
    counts: dict[float, float] = {}
    for sample in (found for window in windows for found in evidence.increases(ITL_BUCKETS, window, job="vllm")):
        edge = float(sample.labels["le"])
        counts[edge] = counts.get(edge, 0.0) + sample.value
    return counts

"""What flags change inside an engine, from its own metrics; nothing is claimed where a metric is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from tests.stubs.run import measured, run_of
from workload.analysis.engine_effects import engine_effects, quantile_at_most
from workload.record.results import Measured, RunData
from workload.services.prometheus import Sample, Series

if TYPE_CHECKING:
    from workload.record.window import Window

COUNTS = {0.01: 0.0, 0.025: 90.0, 0.05: 99.0, float("inf"): 100.0}


@pytest.mark.parametrize(
    ("share", "edge"), [(0.5, 0.025), (0.9, 0.025), (0.91, 0.05), (0.99, 0.05), (1.0, None)], ids=str
)
def test_a_quantile_lies_under_the_edge_of_its_bucket(share: float, edge: float | None) -> None:
    """Buckets are coarse: the edge is certain, an interpolated value is not; beyond the last edge nothing is."""
    assert quantile_at_most(COUNTS, share) == edge


def test_no_observation_is_no_latency() -> None:
    """A p99 of 0 s would win every comparison."""
    assert quantile_at_most({}, 0.99) is None
    assert quantile_at_most({0.01: 0.0, float("inf"): 0.0}, 0.99) is None


class Told:
    """Stored series of two windows: usage peaks at 0.2 and 0.6, and 100 inter-token latencies each."""

    def stored(self, metric: str, window: Window, **_: str) -> list[Series]:
        """Return the gauge under its new name only."""
        if metric != "vllm:kv_cache_usage_perc":
            return []
        return [Series({}, np.array([0.0, 1.0]), np.array([np.nan, 0.2 + 0.4 * window.block]))]

    def increases(self, _: str, __: Window, **___: str) -> list[Sample]:
        """Return the buckets of one engine."""
        return [Sample({"le": str(edge)}, 0.0, count) for edge, count in COUNTS.items()]


def test_an_arm_is_reported_over_all_its_windows() -> None:
    """The peak is that of the worst block, the latency that of all tokens."""
    windows = [measured("on", block=block) for block in (0, 1)]
    windows = [Measured(w.window, {"num_gpu_blocks": 256}, w.counters, w.accounting) for w in windows]
    data = RunData(measured=windows, questions=(), calls=(), visits=(), stages=(), evidence=cast("Any", Told()))
    assert engine_effects(data, "on") == {
        "num_gpu_blocks": 256,
        "kv_usage_peak": pytest.approx(0.6),
        "inter_token_latency_p99_at_most": 0.05,
    }


def test_without_evidence_nothing_is_known() -> None:
    """A journal alone does not contain the engine's gauges."""
    assert set(engine_effects(run_of([measured("on")]), "on").values()) == {None}

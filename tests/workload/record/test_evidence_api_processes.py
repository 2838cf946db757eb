"""A second series of one engine, distinguished by a process, changes no figure: neither counted twice nor left out."""

from __future__ import annotations

import numpy as np
import pytest

from workload.record.evidence import joined
from workload.services.prometheus import Series

TIMES = np.array([1.0, 2.0, 3.0])
ENGINE = {"job": "vllm-fast", "instance": "h:1", "engine": "0"}


def _series(values: list[float], times: list[float] | None = None, **labels: str) -> Series:
    return Series({**ENGINE, **labels}, np.array(times or TIMES), np.array(values))


@pytest.mark.parametrize(
    ("metric", "values"),
    [("vllm:kv_cache_usage_perc", [0.5, 0.6, 0.7]), ("vllm:generation_tokens_total", [0.5, 1.2, 1.4])],
)
def test_processes_of_one_engine_are_one(metric: str, values: list[float]) -> None:
    """Two that show the whole pool are no pool of twice the size; what each counted is a part."""
    found = [_series([0.5, 0.6, 0.7], pid="1"), _series([0.6, 0.7], [2.0, 3.0], pid="2")]
    (one,) = joined(metric, found)
    assert one.labels == ENGINE
    assert one.times.tolist() == TIMES.tolist()
    assert one.values.tolist() == pytest.approx(values)


def test_a_process_that_shows_nothing_hides_nothing() -> None:
    """An API process that never heard of the engine's step shows 0."""
    (one,) = joined("vllm:num_requests_running", [_series([3, 4, 5], pid="1"), _series([0, 0, 0], pid="2")])
    assert one.values.tolist() == [3, 4, 5]


def test_engines_and_the_processes_of_others_stay_apart() -> None:
    """Each engine has a pool of its own, and the memory of each process is its own."""
    assert len(joined("vllm:kv_cache_usage_perc", [_series([1, 1, 1]), _series([1, 1, 1], engine="1")])) == 2
    assert len(joined("nvml_process_memory_bytes", [_series([1, 1, 1], pid="1"), _series([1, 1, 1], pid="2")])) == 2

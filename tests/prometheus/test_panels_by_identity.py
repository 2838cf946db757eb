"""Panels that divide or multiply what is of two series: each engine with its own pool, each GPU with its own memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from workload.promql.gpu_memory import KV_BYTES
from workload.promql.overview import GPU_PEAK

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from workload.promql.query import Query

# Two runs with an arm of one name: half of a pool of 80 bytes, and a tenth of one of 1,000.
POOLS = {
    'vllm:kv_cache_usage_perc{job="vllm-fast",instance="e:1",run="r1",arm="base",pod="p1"}': 0.5,
    'hop2rag_vllm_kv_pool_bytes{job="workload",instance="a:1",run="r1",arm="base",pod="p2"}': 81,
    'hop2rag_vllm_kv_block_bytes{job="workload",instance="a:1",run="r1",arm="base",pod="p2"}': 1,
    'vllm:kv_cache_usage_perc{job="vllm-fast",instance="e:2",run="r2",arm="base"}': 0.125,
    'hop2rag_vllm_kv_pool_bytes{job="workload",instance="a:2",run="r2",arm="base"}': 801,
    'hop2rag_vllm_kv_block_bytes{job="workload",instance="a:2",run="r2",arm="base"}': 1,
}
# Two hosts: a full GPU of 80, and one of 160 that holds nothing.
GPUS = {
    'nvml_memory_used_bytes{job="exporter",instance="h:1",arm="base",gpu="0"}': 80,
    'nvml_memory_total_bytes{job="exporter",instance="h:1",arm="base",gpu="0"}': 80,
    'nvml_memory_used_bytes{job="exporter",instance="h:2",arm="base",gpu="0"}': 0,
    'nvml_memory_total_bytes{job="exporter",instance="h:2",arm="base",gpu="0"}': 160,
}


@pytest.mark.prometheus
@pytest.mark.parametrize(
    ("query", "series", "labels", "value"),
    [(KV_BYTES, POOLS, '{arm="base"}', 100), (GPU_PEAK, GPUS, '{gpu="0"}', 1)],
    ids=["pools of two runs", "GPUs of two hosts"],
)
def test_each_is_measured_by_its_own(
    query: Query, series: Mapping[str, float], labels: str, value: float, promtool: Callable[..., str], tmp_path: Path
) -> None:
    """The largest of one times the largest of another is a number that nothing in the world has."""
    asked = {"expr": query.scoped({}, 1.0), "eval_time": "30s", "exp_samples": [{"labels": labels, "value": value}]}
    written = [{"series": name, "values": f"{each}x30"} for name, each in series.items()]
    file = tmp_path / "test.yml"
    file.write_text(
        yaml.safe_dump(
            {
                "evaluation_interval": "1s",
                "tests": [{"interval": "1s", "input_series": written, "promql_expr_test": [asked]}],
            }
        )
    )
    promtool("test", "rules", file)

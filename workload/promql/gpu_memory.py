"""Queries of device memory, KV pool and node activity.

What is sampled with its own timestamps gets no staleness marker, so it is only ever read by `last_over_time`.
"""

from __future__ import annotations

from workload.promql.query import Query

TIMELINE_MEMORY = "nvml_timeline_memory_used_bytes"
TIMELINE_ACTIVE = "hop2rag_timeline_node_active"
RESIDENT = "hop2rag_host_process_resident_memory_bytes"
PROCESS_MEMORY = "nvml_process_memory_bytes"
GPU_INFO = "nvml_gpu_info"
REFRESH = "nvml_utilization_refresh_seconds"
SAMPLES_MISSED = "hop2rag_exporter_samples_missed_total"
GENERATED = "vllm:generation_tokens_total"
# Newest first: the name changed with vLLM 0.9.2.
KV_USAGE_NAMES = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")
FAST_JOB = "vllm-fast"
OF_A_RUN = "run, experiment, arm, phase"

_ACTIVE = f'last_over_time({TIMELINE_ACTIVE}{{job="workload-timeline",$scope}}[2s])'
_ACTIVE_IN = f'last_over_time({TIMELINE_ACTIVE}{{node="%s",job="workload-timeline",$scope}}[2s])'
_MEMORY = f'last_over_time({TIMELINE_MEMORY}{{job="exporter-timeline",$scope}}[1s])'


_BY_GPU = f"max by (arm, gpu) ({_MEMORY})"


def _active_in(node: str) -> Query:
    """Return the number of workers inside a node."""
    return Query(f"workers_in_{node}", f"sum by (arm) ({_ACTIVE_IN % node})")


def _memory_in(node: str) -> Query:
    """Return the memory of each GPU while a node, and nothing else, is active.

    With two workers one value would be credited twice; GPUs are told apart, for which of them the engine uses is not
    known here.
    """
    alone = f"sum by (arm) ({_ACTIVE}) == 1"
    inside = f"max by (arm) ({_ACTIVE_IN % node}) == 1"
    return Query(f"device_memory_in_{node}", f"{_BY_GPU} * on (arm) group_left () ({inside}) and on (arm) ({alone})")


DEVICE_MEMORY = Query("device_memory_used", _BY_GPU)
DEVICE_TOTAL = Query("device_memory_total", "max by (arm, gpu) (nvml_memory_total_bytes{$scope})")
ENGINE_RESIDENT = Query("engine_resident_memory", f'sum by (arm) ({RESIDENT}{{role="engine",$scope}})')
KV_BYTES = Query(
    "kv_pool_bytes_in_use",
    # usage is over the pool without its null block
    # and each run's is of its own pool: arms of one name in two runs may have two
    f"max by (arm) (max by ({OF_A_RUN}) "
    f'(max_over_time({KV_USAGE_NAMES[0]}{{job="vllm-fast",$scope}}[$__rate_interval])) * on ({OF_A_RUN}) '
    f"max by ({OF_A_RUN}) (hop2rag_vllm_kv_pool_bytes{{$scope}} - hop2rag_vllm_kv_block_bytes{{$scope}}))",
)
UTILIZATION = Query("gpu_utilization", "max by (arm, gpu) (nvml_utilization_ratio{$scope})")
SAMPLE_RATE = Query("gpu_sample_rate", "min by (arm, gpu) (hop2rag_exporter_sample_rate_hertz{$scope})")
SAMPLE_GAP_P99 = Query(
    "gpu_sample_gap_p99",
    "histogram_quantile(0.99, sum by (arm, le) "
    "(rate(hop2rag_exporter_sample_interval_seconds_bucket{$scope}[$__rate_interval])))",
)
IN_DECOMPOSE = _active_in("decompose")
IN_RETRIEVE = _active_in("retrieve")
IN_EXTRACT_CLUES = _active_in("extract_clues")
IN_DECIDE = _active_in("decide")
IN_GENERATE = _active_in("generate")
MEMORY_IN_DECOMPOSE = _memory_in("decompose")
MEMORY_IN_RETRIEVE = _memory_in("retrieve")
MEMORY_IN_EXTRACT_CLUES = _memory_in("extract_clues")
MEMORY_IN_DECIDE = _memory_in("decide")
MEMORY_IN_GENERATE = _memory_in("generate")

"""Queries of overlap: what retrieval and generation did, alone and together, and how busy the engine was."""

from __future__ import annotations

from workload.promql.query import Query

BUSY_SECONDS = "hop2rag_busy_seconds_total"
GPU_BUSY_SECONDS = "nvml_busy_seconds_total"
PROCESS_CPU_SECONDS = "hop2rag_host_process_cpu_seconds_total"
REQUESTS_RUNNING = "vllm:num_requests_running"
REQUEST_SECONDS = "vllm:e2e_request_latency_seconds_sum"
FAST_JOB = "vllm-fast"


def _share_of(activity: str) -> Query:
    rate = f'rate({BUSY_SECONDS}{{activity="{activity}",$scope}}[$__rate_interval])'
    return Query(f"busy_share_{activity}", f"sum by (arm) ({rate})")


def _stage(stage: str) -> Query:
    rate = f'rate(hop2rag_retrieval_duration_seconds_sum{{stage="{stage}",$scope}}[$__rate_interval])'
    return Query(f"retrieval_share_{stage}", f"sum by (arm) ({rate})")


RETRIEVAL_ONLY = _share_of("retrieval_only")
GENERATION_ONLY = _share_of("generation_only")
BOTH = _share_of("both")
NEITHER = _share_of("neither")
EMBEDDING = _stage("embed")
SEARCHING = _stage("search")
RERANKING = _stage("rerank")
REQUESTS_IN_FLIGHT = Query(
    # by Little's law the sum of latencies a second is the mean number of requests in flight
    "engine_requests_in_flight",
    f'sum by (arm) (rate({REQUEST_SECONDS}{{job="vllm",$scope}}[$__rate_interval]))',
)
GPU_BUSY = Query("gpu_busy_share", f"max by (arm, gpu) (rate({GPU_BUSY_SECONDS}{{$scope}}[$__rate_interval]))")
ENGINE_CORES = Query(
    "engine_cpu_cores", f'sum by (arm) (rate({PROCESS_CPU_SECONDS}{{role="engine",$scope}}[$__rate_interval]))'
)

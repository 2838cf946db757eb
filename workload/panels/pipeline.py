"""Panels of overlap: what retrieval and generation do, alone and together, and how busy the engine is."""

from __future__ import annotations

from workload.panels.panel import Line, Panel
from workload.promql import pipeline as promql
from workload.promql.vllm_metrics import RUNNING

ACTIVITIES = Panel(
    key="overlap_activities",
    title="Retrieval and generation, share of time",
    why="The four add up to 1 during a load (hop2rag_busy_seconds_total); overlap is what the line `both` shows.",
    unit="percentunit",
    is_stacked=True,
    lines=(
        Line(promql.RETRIEVAL_ONLY, "retrieval_only"),
        Line(promql.GENERATION_ONLY, "generation_only"),
        Line(promql.BOTH, "both"),
        Line(promql.NEITHER, "neither"),
    ),
)
IN_FLIGHT = Panel(
    key="requests_in_flight",
    title="Requests in the engine, peak and mean",
    why=(
        "Running at the peak of each step (vllm:num_requests_running), which misses the prefill of a lone call, and "
        "the mean by the server's latencies (vllm:e2e_request_latency_seconds_sum), counted when a request ends."
    ),
    unit="short",
    lines=(Line(RUNNING, "running"), Line(promql.REQUESTS_IN_FLIGHT, "mean in flight")),
)
STAGES = Panel(
    key="retrieval_stages",
    title="Questions in each stage of retrieval, mean",
    why="Seconds per second, summed over questions in flight (hop2rag_retrieval_duration_seconds).",
    unit="short",
    lines=(
        Line(promql.EMBEDDING, "embed"),
        Line(promql.SEARCHING, "search"),
        Line(promql.RERANKING, "rerank"),
    ),
)
GPU_BUSY = Panel(
    key="gpu_busy",
    title="Share of time in which a kernel ran on each GPU",
    why="From every sample of the driver's buffer (nvml_busy_seconds_total).",
    unit="percentunit",
    lines=(Line(promql.GPU_BUSY, "GPU {{gpu}}"),),
    empty="no GPU data",
)
ENGINE_CORES = Panel(
    key="engine_cpu_cores",
    title="CPU cores used by the engine's processes",
    why="CPU seconds per second (hop2rag_host_process_cpu_seconds_total); on a CPU engine retrieval competes with it.",
    unit="short",
    lines=(Line(promql.ENGINE_CORES),),
)
PANELS = (ACTIVITIES, IN_FLIGHT, STAGES, GPU_BUSY, ENGINE_CORES)

"""Panels of device memory, KV pool and node activity on one time axis."""

from __future__ import annotations

from dataclasses import replace

from workload.panels.panel import Line, Panel
from workload.promql import gpu_memory as promql

GPU = "GPU {{gpu}}"
GPU_HEALTH = "/d/hop2rag-exporter-health?${__url_time_range}&${run:queryparam}"
THIS_GPU = f"{GPU_HEALTH}&var-gpu=${{__field.labels.gpu}}"

DEVICE_MEMORY = Panel(
    key="device_memory",
    title="Memory in use on each GPU",
    why="Every 10 ms, with its own timestamps (nvml_timeline_memory_used_bytes); vLLM takes its memory at the start.",
    unit="bytes",
    lines=(Line(promql.DEVICE_MEMORY, GPU),),
    links=((GPU_HEALTH, "To the health of each GPU"),),
    empty="no GPU data",
    decimals=2,
)
DEVICE_MEMORY_OF_TOTAL = replace(
    DEVICE_MEMORY,
    key="device_memory_of_total",
    why=f"{DEVICE_MEMORY.why} Dashed: all that the GPU has (nvml_memory_total_bytes). Where GPUs of several hosts have "
    "one number, the fullest is shown.",
    lines=(*DEVICE_MEMORY.lines, Line(promql.DEVICE_TOTAL, f"{GPU} total")),
    repeat="gpu",
)
ENGINE_RESIDENT = Panel(
    key="engine_resident_memory",
    title="Resident memory of the engine's processes",
    why="Stands in for device memory where there is no GPU (hop2rag_host_process_resident_memory_bytes).",
    unit="bytes",
    lines=(Line(promql.ENGINE_RESIDENT),),
    decimals=2,
)
KV_BYTES = Panel(
    key="kv_pool_bytes",
    title="KV pool in use in bytes, peak of each step",
    why="Usage times the pool without its null block (vllm:kv_cache_usage_perc, hop2rag_vllm_kv_pool_bytes). The pool "
    "itself is not drawn: beside it what moves would be a flat line.",
    unit="bytes",
    lines=(Line(promql.KV_BYTES),),
    empty="not recorded",
)
NODE_ACTIVITY = Panel(
    key="node_activity",
    title="Workers inside each node",
    why="From the millisecond a worker enters a node to the one it leaves (hop2rag_timeline_node_active).",
    unit="short",
    lines=(
        Line(promql.IN_DECOMPOSE, "decompose"),
        Line(promql.IN_RETRIEVE, "retrieve"),
        Line(promql.IN_EXTRACT_CLUES, "extract_clues"),
        Line(promql.IN_DECIDE, "decide"),
        Line(promql.IN_GENERATE, "generate"),
    ),
)
MEMORY_BY_NODE = Panel(
    key="device_memory_by_node",
    title="Memory in use on each GPU, by the only node active",
    why="Joined by time; while several workers or nodes are active, memory is credited to none of them.",
    unit="bytes",
    lines=(
        Line(promql.MEMORY_IN_DECOMPOSE, f"decompose, {GPU}"),
        Line(promql.MEMORY_IN_RETRIEVE, f"retrieve, {GPU}"),
        Line(promql.MEMORY_IN_EXTRACT_CLUES, f"extract_clues, {GPU}"),
        Line(promql.MEMORY_IN_DECIDE, f"decide, {GPU}"),
        Line(promql.MEMORY_IN_GENERATE, f"generate, {GPU}"),
    ),
    empty="no GPU data",
    decimals=2,
)
UTILIZATION = Panel(
    key="gpu_utilization",
    title="Duty cycle of each GPU",
    why="Share of the driver's last averaging period, 1/6 to 1 s, in which a kernel ran (nvml_utilization_ratio).",
    unit="percentunit",
    lines=(Line(promql.UTILIZATION, GPU),),
    empty="no GPU data",
)
SAMPLE_RATE = Panel(
    key="gpu_sample_rate",
    title="Memory samples per second",
    why="Over ten seconds (hop2rag_exporter_sample_rate_hertz); below what was asked for, the sampler was late.",
    unit="hertz",
    lines=(Line(promql.SAMPLE_RATE, GPU),),
    empty="no GPU data",
)
SAMPLE_GAP = Panel(
    key="gpu_sample_gap",
    title="Gap between memory samples, P99",
    why="From the sampler's own histogram (hop2rag_exporter_sample_interval_seconds); as fine as its buckets.",
    unit="s",
    lines=(Line(promql.SAMPLE_GAP_P99),),
    empty="no GPU data",
)
PANELS = (
    DEVICE_MEMORY,
    ENGINE_RESIDENT,
    KV_BYTES,
    NODE_ACTIVITY,
    MEMORY_BY_NODE,
    UTILIZATION,
    SAMPLE_RATE,
    SAMPLE_GAP,
)

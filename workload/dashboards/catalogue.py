"""Which panels stand on which dashboard, and in what order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from workload.panels import (
    activity,
    concurrency,
    context_growth,
    exporter_health,
    gpu_memory,
    latency,
    overview,
    pipeline,
    prompts,
    vllm_metrics,
)

if TYPE_CHECKING:
    from workload.panels.panel import Panel

# Of Grafana's 24 columns.
QUARTER, THIRD, HALF, FULL = 6, 8, 12, 24


@dataclass(frozen=True)
class Row:
    """Panels under a heading, each of them `width` columns wide and `height` units of 38 pixels tall.

    The panels of a row that is not open are asked for when its reader opens it.
    """

    title: str
    panels: tuple[Panel, ...]
    width: int = HALF
    height: int = 8
    is_open: bool = True


@dataclass(frozen=True)
class Dashboard:
    """A dashboard.

    Attributes:
        name: names its file; for an experiment, the experiment's name.
        title: unique, for Grafana's search.
        description: what it is for.
        rows: what it shows, from top to bottom.
        watches_all_runs: whether it opens with all runs instead of the newest.
    """

    name: str
    title: str
    description: str
    rows: tuple[Row, ...]
    watches_all_runs: bool = False

    @property
    def uid(self) -> str:
        """Its fixed address in Grafana; the prefix keeps it apart from the dashboards that are there already."""
        return f"hop2rag-{self.name}"


STATE = Row(
    "At a glance",
    (
        overview.ANSWER_RATE,
        overview.QUESTION_P95,
        overview.FIRST_TOKEN_P95,
        overview.FAILED_CALLS,
        overview.WAITING_PEAK,
        overview.KV_PEAK,
        overview.GPU_PEAK,
        overview.ALERTS_FIRED,
    ),
    QUARTER,
    height=3,
)
ARMS = Row("The arms side by side", (overview.ARMS, overview.DELTAS), FULL, height=7)
ENGINE = Row(
    "The engine under load",
    (vllm_metrics.REQUESTS, vllm_metrics.KV_USAGE, overview.FIRST_TOKEN, concurrency.RATE),
)
REUSE = Row(
    "What could be reused, and what was",
    (prompts.REUSE_BY_NODE, prompts.REUSE_BY_HOP, prompts.REUSE, prompts.REUSE_LOST),
)
FATES = Row(
    "What becomes of prompt tokens",
    (prompts.FATES, prompts.FINDABLE, prompts.FATES_BY_NODE, prompts.FATES_BY_HOP),
)
TIME_AXIS = Row(
    "Nodes, KV pool and GPU memory on one time axis",
    (activity.NODE_TIMELINE, vllm_metrics.KV_USAGE, gpu_memory.DEVICE_MEMORY_OF_TOTAL),
    FULL,
)
OVERLAP = Row(
    "Retrieval and generation",
    (pipeline.ACTIVITIES, activity.OVERLAP_SECONDS, activity.NODE_SHARE, activity.RETRIEVAL_MEAN),
)
GROWTH = Row("How the context grows", (prompts.SIZE_BY_HOP, prompts.SIZE_BY_NODE, prompts.SIZE, prompts.SIZE_HEATMAP))
CACHE = Row("The engine's cache", (vllm_metrics.HIT_RATIO, vllm_metrics.KV_USAGE))
LATENCY = Row(
    "The engine's latency",
    (
        overview.FIRST_TOKEN,
        overview.FIRST_TOKEN_COUNT,
        overview.FIRST_TOKEN_HEATMAP,
        overview.TOKEN_LATENCY,
        overview.ENGINE_PHASES,
        concurrency.QUEUE,
    ),
)
QUESTIONS = Row("Questions", (overview.QUESTION_HEATMAP, overview.HOPS, latency.ENDINGS, overview.FAILURES))

OVERVIEW = Dashboard(
    "overview",
    "Hop2Rag: overview",
    "Where time, memory and cache hits go while questions are answered.",
    (
        STATE,
        ARMS,
        ENGINE,
        *(
            replace(row, is_open=False)
            for row in (
                REUSE,
                TIME_AXIS,
                OVERLAP,
                GROWTH,
                Row("The engine's cache", (vllm_metrics.HIT_RATIO, vllm_metrics.PREEMPTIONS)),
                Row("The engine's work", (vllm_metrics.PROMPT_TOKENS, vllm_metrics.GENERATION_TOKENS)),
                Row("The objectives", (overview.BURN_RATE, overview.BUDGET_LEFT)),
                replace(LATENCY, panels=LATENCY.panels[1:]),
                QUESTIONS,
            )
        ),
    ),
)
KV_CACHE = Dashboard(
    "kv-cache",
    "Hop2Rag: KV cache",
    "How much of the prompts could come from a prefix cache, and how much does?",
    (STATE, REUSE, FATES, GROWTH, CACHE),
)
GPU_MEMORY = Dashboard(
    "gpu-memory",
    "Hop2Rag: GPU memory",
    "What moves in GPU memory and in the KV pool, and in which node?",
    (
        STATE,
        TIME_AXIS,
        Row("The pool and the engine's processes", (gpu_memory.KV_BYTES, gpu_memory.ENGINE_RESIDENT)),
        Row(
            "Utilisation, and how well memory is sampled",
            (gpu_memory.UTILIZATION, gpu_memory.SAMPLE_RATE, gpu_memory.SAMPLE_GAP),
            THIRD,
        ),
    ),
)
PIPELINE = Dashboard(
    "pipeline",
    "Hop2Rag: pipeline",
    "Do retrieval and generation overlap, and what would it save if they did?",
    (
        STATE,
        OVERLAP,
        Row(
            "How busy each resource is",
            (pipeline.IN_FLIGHT, pipeline.STAGES, pipeline.GPU_BUSY, pipeline.ENGINE_CORES),
        ),
        TIME_AXIS,
    ),
)
VLLM_METRICS = Dashboard(
    "vllm-metrics",
    "Hop2Rag: prefix caching off and on",
    "What does prefix caching change, on the same questions?",
    (
        STATE,
        ARMS,
        *(Row(figure.title, figure.panels) for figure in vllm_metrics.FIGURES),
        REUSE,
        FATES,
        LATENCY,
    ),
)
CONTEXT_GROWTH = Dashboard(
    "context-growth",
    "Hop2Rag: context growth",
    "How do latency and memory grow with the context?",
    (
        STATE,
        GROWTH,
        Row(
            "What a longer prompt costs",
            (
                context_growth.PROMPT_SIZE,
                context_growth.FIRST_TOKEN,
                context_growth.FURTHER_TOKEN,
                overview.ENGINE_PHASES,
            ),
        ),
        Row(
            "What the engine holds",
            (vllm_metrics.KV_USAGE, gpu_memory.KV_BYTES, vllm_metrics.REQUESTS, vllm_metrics.PREEMPTIONS),
        ),
    ),
)
CONCURRENCY = Dashboard(
    "concurrency",
    "Hop2Rag: concurrency",
    "What do more questions at once bring, and what do they cost?",
    (
        STATE,
        Row(
            "Load and throughput", (concurrency.IN_FLIGHT, concurrency.RATE, concurrency.SECONDS, vllm_metrics.REQUESTS)
        ),
        Row(
            "What the engine holds",
            (vllm_metrics.KV_USAGE, vllm_metrics.PREEMPTIONS, gpu_memory.KV_BYTES, gpu_memory.DEVICE_MEMORY_OF_TOTAL),
        ),
        LATENCY,
    ),
)
LATENCY_BY_NODE = Dashboard(
    "latency",
    "Hop2Rag: latency",
    "Where does a question's time go, and what ends its loop?",
    (
        STATE,
        QUESTIONS,
        Row("Time by node", (activity.NODE_SHARE, latency.NODE_SECONDS, activity.NODE_MEAN, latency.HOPS)),
        LATENCY,
    ),
)
EXPORTER_HEALTH = Dashboard(
    "exporter-health",
    "Hop2Rag: health of the monitoring",
    "Are the numbers on the other dashboards to be believed?",
    (
        Row(
            "At a glance",
            (exporter_health.TARGETS_DOWN, exporter_health.SAMPLE_RATE, exporter_health.SAMPLE_AGE),
            THIRD,
            height=4,
        ),
        Row("Targets and collectors", (exporter_health.UP, exporter_health.COLLECTOR_SUCCESS)),
        Row(
            "What a scrape costs",
            (exporter_health.SCRAPE_SECONDS, exporter_health.SCRAPE_SAMPLES, exporter_health.COLLECTOR_SECONDS),
            THIRD,
        ),
        Row(
            "How well memory is sampled",
            (
                exporter_health.GAP_P99,
                exporter_health.GAP_HEATMAP,
                exporter_health.SAMPLES_MISSED,
                exporter_health.RAW_LOG,
            ),
        ),
        Row(
            "GPUs and host",
            (
                exporter_health.GPUS_UP,
                exporter_health.DRIVER_ERRORS,
                exporter_health.XID_ERRORS,
                exporter_health.ECC_ERRORS,
                exporter_health.TEMPERATURE,
                exporter_health.POWER,
                exporter_health.PROCESS_MEMORY,
                exporter_health.PROCESS_CPU,
                exporter_health.HOST_FREE,
                exporter_health.DISK_FREE,
            ),
            THIRD,
        ),
    ),
    watches_all_runs=True,
)
DASHBOARDS = (
    OVERVIEW,
    LATENCY_BY_NODE,
    KV_CACHE,
    GPU_MEMORY,
    PIPELINE,
    VLLM_METRICS,
    CONTEXT_GROWTH,
    CONCURRENCY,
    EXPORTER_HEALTH,
)


def dashboard_of(experiment: str) -> Dashboard:
    """Return an experiment's dashboard; one that has none of its own is seen on the overview."""
    return next((dashboard for dashboard in DASHBOARDS if dashboard.name == experiment), OVERVIEW)

"""The experiments by name: one module each, holding one frozen value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workload.experiments.concurrency import CONCURRENCY
from workload.experiments.context_growth import CONTEXT_GROWTH
from workload.experiments.gpu_memory import GPU_MEMORY
from workload.experiments.kv_cache import KV_CACHE
from workload.experiments.latency import LATENCY
from workload.experiments.pipeline import PIPELINE
from workload.experiments.vllm_metrics import VLLM_METRICS

if TYPE_CHECKING:
    from workload.experiment import Experiment, OfflineExperiment

EXPERIMENTS: dict[str, Experiment[Any] | OfflineExperiment[Any]] = {
    experiment.name: experiment
    for experiment in (KV_CACHE, GPU_MEMORY, VLLM_METRICS, PIPELINE, CONTEXT_GROWTH, CONCURRENCY, LATENCY)
}

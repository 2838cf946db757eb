"""The experiments by name: one module each, holding one frozen value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workload.experiments.gpu_memory import GPU_MEMORY
from workload.experiments.latency import LATENCY
from workload.experiments.pipeline import PIPELINE
from workload.experiments.vllm_metrics import VLLM_METRICS

if TYPE_CHECKING:
    from workload.experiment import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment for experiment in (GPU_MEMORY, VLLM_METRICS, PIPELINE, LATENCY)
}

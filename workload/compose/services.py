"""The services of docker-compose.yml as targets of Prometheus before, between and after runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workload.services import targets
from workload.services.targets import ArmLabels, TargetFiles

if TYPE_CHECKING:
    from pathlib import Path

LIVE = ArmLabels(targets.LIVE, "load", "load")
"""The labels of everything that is not an experiment."""

VLLM, EXPORTER = "http://vllm:8000", "exporter:9400"


def first_targets(folder: Path) -> None:
    """Have the engine and the exporter scraped from the start; existing targets stay.

    Raises:
        StorageError: the folder cannot be written.
    """
    if not (folder / "vllm.json").exists():
        TargetFiles(folder).write(LIVE, vllm=[VLLM], exporter=[EXPORTER])

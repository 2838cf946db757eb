"""A Prometheus that somebody else runs, and that reads its targets from a folder in which we may write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from workload.errors import DependencyDownError
from workload.prometheus import PrometheusClient
from workload.targets import TargetFiles

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import requests


class AttachedPrometheus:
    """Prometheus at `url`, whose targets are ours while the block lasts. A context manager.

    Args:
        url: where it answers.
        folder: the folder of its `file_sd` files, with prometheus/prometheus.yml as its configuration.
        session: the HTTP session.
    """

    def __init__(self, url: str, folder: Path, session: requests.Session) -> None:
        self.url = url
        self.client = PrometheusClient(url, session)
        self.targets = TargetFiles(folder)
        self._before: Mapping[str, str] = {}

    def __enter__(self) -> Self:
        """Remember the targets.

        Raises:
            DependencyDownError: Prometheus is not ready.
        """
        if not self.client.ready():
            raise DependencyDownError(f"Prometheus on {self.url} is not ready.", "Start it, or look at its log.")
        self._before = self.targets.read()
        return self

    def __exit__(self, *exc: object) -> None:
        """Have it scrape again what it did before."""
        self.targets.restore(self._before)

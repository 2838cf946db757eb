"""A Prometheus that another user runs, and that reads its targets from a folder where we can write."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from workload.errors import DependencyDownError
from workload.services.locks import THIS_COMMAND, FileLock
from workload.services.prometheus import PrometheusClient
from workload.services.targets import TargetFiles

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import requests

    from workload.services.locks import Requester


class AttachedPrometheus:
    """Prometheus at `url`, with its targets reserved for this command while the block lasts. A context manager.

    Args:
        url: where it answers.
        folder: the folder of its `file_sd` files, with prometheus/prometheus.yml as its configuration.
        session: the HTTP session.
        by: the command that asks; it waits for the command that uses the targets now.
    """

    def __init__(self, url: str, folder: Path, session: requests.Session, by: Requester = THIS_COMMAND) -> None:
        self.url = url
        self.client = PrometheusClient(url, session)
        self.targets = TargetFiles(folder)
        self._used, self._by = FileLock(folder, f"Prometheus on {self.client.url}"), by
        self._stack = ExitStack()
        self._before: Mapping[str, str] = {}

    def __enter__(self) -> Self:
        """Reserve the targets and remember the present ones.

        Raises:
            DependencyDownError: Prometheus is not ready.
        """
        with self._stack as stack:
            stack.enter_context(self._used.acquire(by=self._by))
            if not self.client.ready():
                raise DependencyDownError(f"Prometheus on {self.url} is not ready.", "Start it, or look at its log.")
            self._before = self.targets.read_standing()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        """Restore the earlier targets."""
        with self._stack:
            self.targets.restore(self._before)

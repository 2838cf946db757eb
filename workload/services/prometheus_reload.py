"""Has our Prometheus read its configuration again, by a signal: over HTTP any page in a browser could too."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from workload.services.prometheus import PrometheusError

if TYPE_CHECKING:
    from workload.services.prometheus import PrometheusClient

RELOAD_SECONDS = 15.0
POLL_SECONDS = 0.05


def reload_by_signal(pid: int, client: PrometheusClient) -> None:
    """Return once the Prometheus of that process id has read its configuration and rules again.

    Raises:
        PrometheusError: it refused them, and goes on with those it had; or it did not read them in time.
    """
    before = client.last_reload()
    os.kill(pid, signal.SIGHUP)
    deadline = time.monotonic() + RELOAD_SECONDS
    while (now := client.last_reload()) == before:
        if time.monotonic() > deadline:
            raise PrometheusError(f"Prometheus at {client.url} did not read its configuration again.", "See its log.")
        time.sleep(POLL_SECONDS)
    if not now[1]:
        raise PrometheusError(
            f"Prometheus at {client.url} refused its configuration.", "Check the files with `promtool check config`."
        )

"""`hop2rag up` and `hop2rag down`: the engine and what watches it, kept up for several runs."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

import psutil

from workload.alertmanager import LocalAlertmanager
from workload.engine.profile import PROFILES
from workload.errors import DependencyDownError, MissingPartError, UsageError
from workload.grafana_server import LocalGrafana, find_grafana_server
from workload.paths import cache_dir
from workload.prometheus_binary import find_alertmanager, find_prometheus
from workload.prometheus_server import HOST, LocalPrometheus, loopback_session
from workload.soak.webhook import PATH

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from workload.engine.launcher import ProcessLauncher

STOP_TIMEOUT_SECONDS = 60.0


def pid_file() -> Path:
    """Return where `up` writes its process id and start time."""
    return cache_dir() / "up.pid"


def stay_up(
    profile: str,
    launcher: ProcessLauncher,
    prometheus_port: int,
    alertmanager_port: int,
    webhook_port: int,
    grafana_port: int,
    console: Console,
) -> None:
    """Start Alertmanager, Prometheus, Grafana and the engine, say where they are, wait; stop them in reverse order.

    Without an Alertmanager that can be had here the alerts are evaluated and stored, and go nowhere. Grafana is
    started if it is on PATH.

    Raises:
        UsageError: no such profile, or `up` runs already.
    """
    if profile not in PROFILES:
        raise UsageError(f"There is no profile {profile!r}.", f"There are: {', '.join(PROFILES)}.")
    if running := _running():
        raise UsageError(f"hop2rag up runs already as process {running.pid}.", "Stop it with: hop2rag down")
    cache = cache_dir()
    with ExitStack() as stack:
        alertmanager = _alertmanager(cache, alertmanager_port, webhook_port, console)
        if alertmanager:
            stack.enter_context(alertmanager)
        prometheus = stack.enter_context(
            LocalPrometheus(
                find_prometheus(cache),
                cache,
                loopback_session(),
                port=prometheus_port,
                alertmanager=alertmanager.address if alertmanager else None,
            )
        )
        binary = find_grafana_server()
        grafana = (
            stack.enter_context(LocalGrafana(binary, cache, prometheus.url, port=grafana_port)) if binary else None
        )
        engine = stack.enter_context(launcher.start(PROFILES[profile]))
        me = psutil.Process()
        pid_file().write_text(f"{me.pid} {me.create_time()}")
        try:
            console.print(f"vLLM {engine.facts.version} ({profile}) on {engine.endpoint}")
            console.print(f"Prometheus on {prometheus.url}")
            if alertmanager:
                console.print(
                    f"Alertmanager on {alertmanager.client.url}; it calls `hop2rag soak` on port {webhook_port}"
                )
            if grafana:
                console.print(f"Grafana on {grafana.url}; its admin's password is in {grafana.password_file}")
            else:
                console.print("No Grafana on PATH: the figures and `hop2rag export` need none.")
            console.print("Ctrl-C or `hop2rag down` stops all of it.")
            signal.pause()
        except KeyboardInterrupt:
            console.print("Stopping.")
        finally:
            pid_file().unlink(missing_ok=True)


def _alertmanager(cache: Path, port: int, webhook_port: int, console: Console) -> LocalAlertmanager | None:
    try:
        binary = find_alertmanager(cache)
    except MissingPartError as error:
        console.print(f"No Alertmanager: {error}", highlight=False)
        return None
    return LocalAlertmanager(
        binary, cache, loopback_session(), port=port, webhook=f"http://{HOST}:{webhook_port}{PATH}"
    )


def bring_down() -> str:
    """Ask a running `up` to stop, wait until it has, and say what happened.

    Raises:
        DependencyDownError: it did not stop.
    """
    process = _running()
    if process is None:
        return "Nothing is up."
    os.kill(process.pid, signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_SECONDS)
    except psutil.TimeoutExpired:
        raise DependencyDownError(f"Process {process.pid} did not stop.", f"Look at it: ps {process.pid}") from None
    return "Stopped the engine and what watched it."


def _running() -> psutil.Process | None:
    """Return the process of a running `up`; a pid that now belongs to another program does not count."""
    try:
        pid, created = pid_file().read_text().split()
        process = psutil.Process(int(pid))
        return process if process.create_time() == float(created) else None
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return None

"""`hop2rag up`: an engine and the services that watch it, for several runs, one after the other."""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

from workload.compose.configs import LIVE
from workload.engine.launcher import UP, ProcessLauncher, wanted
from workload.engine.profile import PROFILES, VllmProfile
from workload.errors import MissingPartError, UsageError
from workload.harness.stay_up_state import UpState, forget, up_lock
from workload.paths import cache_dir
from workload.services.alert_webhook import PATH
from workload.services.alertmanager import USER, LocalAlertmanager
from workload.services.grafana_server import LocalGrafana, find_grafana_server
from workload.services.locks import FileLock, InUseError, Requester, engine_lock
from workload.services.process import HOST, ChildProcess
from workload.services.prometheus_binary import find_alertmanager, find_prometheus
from workload.services.prometheus_server import RETENTION_SIZE, LocalPrometheus, loopback_session
from workload.services.scrape_registration import stop_scraping

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console


POLL_SECONDS = 0.5
REMEDY = "Wait for its end or stop it, or pick other ports."


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Ports on 127.0.0.1; Alertmanager calls a soak at `webhook`."""

    prometheus: int = 9090
    alertmanager: int = 9093
    webhook: int = 9096
    grafana: int = 3000


@dataclass(kw_only=True)
class Stack:
    """The servers of one `hop2rag up`.

    Runs use them one at a time. Between runs its own engine is scraped. A run that needs other engine flags borrows the
    engine's port.
    """

    profile: VllmProfile
    launcher: ProcessLauncher
    ports: Ports
    console: Console
    retention_size: str = RETENTION_SIZE
    cache: Path = field(default_factory=cache_dir)

    def __post_init__(self) -> None:
        me = psutil.Process()
        port = self.launcher.port
        self.by = Requester(UP, say=self.console.print)
        self.up_state = UpState(
            pid=me.pid,
            created=me.create_time(),
            engine_port=port,
            prometheus_port=self.ports.prometheus,
            alertmanager_port=self.ports.alertmanager,
        )
        self.engine_used = engine_lock(self.cache, f"{HOST}:{port}")
        self._engine = ExitStack()

    def keep(self) -> None:
        """Start all servers, print their addresses, and wait for Ctrl-C; then stop them in reverse order.

        Raises:
            InUseError: another program uses one of the servers, or `hop2rag up` runs already.
            Hop2RagError: something did not start.
        """
        with ExitStack() as stack:
            stack.enter_context(up_lock(self.cache).acquire_now(self.by, "Stop it with: hop2rag down"))
            with ExitStack() as claimed:  # no run may use servers that are half up
                for lock in self._used():
                    claimed.enter_context(lock.acquire_now(self.by, REMEDY))
                self.up_state.write(self.cache)
                stack.callback(forget, self.cache)
                lines = self._start(stack)
            for line in (*lines, "Ctrl-C or `hop2rag down` stops all of it."):
                self.console.print(line, highlight=False, soft_wrap=True)
            try:
                while True:
                    self.step()
                    time.sleep(POLL_SECONDS)
            except KeyboardInterrupt:
                self.console.print("Stopping.")
                self._leave(stack)

    def step(self) -> None:
        """Stop the engine if a run needs its port, start it again afterwards, and have it scraped between runs.

        While `hop2rag load` runs, that has both itself and the engine scraped.
        """
        if owner := wanted(self.cache, self.launcher.port).owner():
            if "engine" in self.up_state.children:
                self.console.print(f"The engine is stopped for {owner}.", highlight=False)
                self._stop_engine()
        elif "engine" not in self.up_state.children:
            with suppress(InUseError), self.engine_used.acquire_now(self.by):
                self._start_engine()
        targets = self.prometheus.targets
        used = FileLock(targets.folder)
        if (not targets.are_ours() or targets.addresses() != self._scraped()) and not used.load_lock().owner():
            with suppress(InUseError), used.acquire_now(self.by):
                self._scrape()

    def _used(self) -> list[FileLock]:
        folder = self.cache / f"prometheus-{self.ports.prometheus}" / "targets"
        state = self.cache / f"alertmanager-{self.ports.alertmanager}"
        return [
            self.engine_used,
            FileLock(folder, f"Prometheus on port {self.ports.prometheus}"),
            FileLock(state, f"Alertmanager on port {self.ports.alertmanager}"),
        ]

    def _start(self, stack: ExitStack) -> list[str]:
        """Start everything; return the lines that say where it is."""
        lines = []
        alertmanager = self._alertmanager()
        if alertmanager:
            stack.callback(alertmanager.stop)
            alertmanager.start(shares=False)
            self._note("Alertmanager", alertmanager.child)
            lines.append(
                f"Alertmanager on {alertmanager.client.url}; it calls `hop2rag soak` on port {self.ports.webhook}; "
                f"its user is {USER}, the password is in {alertmanager.password_file}"
            )
        self.prometheus = LocalPrometheus(
            find_prometheus(self.cache),
            self.cache,
            loopback_session(),
            port=self.ports.prometheus,
            retention_size=self.retention_size,
            alertmanager=alertmanager.address if alertmanager else None,
            by=self.by,
        )
        stack.callback(self.prometheus.stop)
        self.prometheus.start(shares=False)
        self._note("Prometheus", self.prometheus.child)
        lines.append(f"Prometheus on {self.prometheus.url}")
        if binary := find_grafana_server():
            grafana = LocalGrafana(binary, self.cache, self.prometheus.url, port=self.ports.grafana, by=self.by)
            stack.enter_context(grafana)
            self._note("Grafana", grafana.child)
            lines.append(f"Grafana on {grafana.url}; its admin's password is in {grafana.password_file}")
        else:
            lines.append("No Grafana on PATH; the figures and `hop2rag export` do not need it.")
        stack.callback(self._stop_engine)
        self._start_engine()
        self._scrape()
        engine = f"vLLM ({self.profile.name}) on http://{HOST}:{self.launcher.port}"
        return [f"{engine}; a run that needs other flags borrows its port", *lines]

    def _alertmanager(self) -> LocalAlertmanager | None:
        try:
            binary = find_alertmanager(self.cache)
        except MissingPartError as error:
            self.console.print(f"No Alertmanager: {error}", highlight=False)
            return None
        hook = f"http://{HOST}:{self.ports.webhook}{PATH}"
        port = self.ports.alertmanager
        return LocalAlertmanager(binary, self.cache, loopback_session(), port=port, webhook=hook, by=self.by)

    def _note(self, name: str, child: ChildProcess | None) -> None:
        self.up_state = self.up_state.having(name, child.identity if child else None)
        self.up_state.write(self.cache)

    def _start_engine(self) -> None:
        self._engine.enter_context(self.launcher.start(self.profile, shares=False))
        self._note("engine", self.launcher.child)

    def _stop_engine(self) -> None:
        self._engine.close()
        self._note("engine", None)

    def _scraped(self) -> dict[str, list[str]]:
        """Return the targets between runs: our engine, without those that a killed run left."""
        mine = [f"{HOST}:{self.launcher.port}"] if "engine" in self.up_state.children else []
        return {"vllm": mine, "exporter": [], "workload": []}

    def _scrape(self) -> None:
        self.prometheus.targets.write(LIVE, vllm=[f"http://{address}" for address in self._scraped()["vllm"]])

    def _leave(self, stack: ExitStack) -> None:
        """Lock the servers until all have stopped, and remove the engine from the targets before it stops."""
        with ExitStack() as claimed:
            for lock in self._used():
                try:
                    claimed.enter_context(lock.acquire_now(self.by))
                except InUseError as error:
                    self.console.print(f"{error.cause} It loses the servers that it uses.", highlight=False)
            stop_scraping(self.prometheus.targets, self.prometheus.client)
            stack.close()


def stay_up(
    profile: str, launcher: ProcessLauncher, ports: Ports, console: Console, retention_size: str = RETENTION_SIZE
) -> None:
    """Start Alertmanager, Prometheus, Grafana and the engine, and print their addresses; stop them after Ctrl-C.

    Without an Alertmanager, alerts are evaluated and stored, but not sent. Grafana is started if it is on PATH.

    Raises:
        UsageError: there is no such profile, `hop2rag up` runs already, or another program uses one of the servers.
        Hop2RagError: something did not start.
    """
    if profile not in PROFILES:
        raise UsageError(f"There is no profile {profile!r}.", f"There are: {', '.join(PROFILES)}.")
    Stack(
        profile=PROFILES[profile], launcher=launcher, ports=ports, console=console, retention_size=retention_size
    ).keep()

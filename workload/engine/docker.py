"""Starts a profile in the service `vllm` of a compose project on this host, through Docker's API."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any

import psutil

from workload.engine.attach import refusal
from workload.engine.endpoint import TIMEOUT_SECONDS, open_client, parse_endpoint
from workload.engine.facts import EngineFacts, read_facts
from workload.engine.launcher import START_TIMEOUT_SECONDS, RunningEngine
from workload.engine.probe import ask_canary, wait_ready
from workload.engine.profile import SERVER_MODULE, VllmProfile
from workload.engine.serve import PROFILE
from workload.errors import DependencyDownError, UsageError
from workload.services.listener import Listener

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import DockerClient
    from docker.models.containers import Container
    from rich.console import Console


ENDPOINT = "http://127.0.0.1:8000"
SERVICE, PROJECT, CONFIG_HASH = (f"com.docker.compose.{label}" for label in ("service", "project", "config-hash"))
STOP_SECONDS = 60


@dataclass(eq=False)
class DockerLauncher:
    """Restarts the service `vllm` with a profile, and pauses the continuous load of the service `workload` meanwhile.

    Args:
        endpoint: the published address of the service; checked at once (`UsageError`).
        project: the compose project, if several run.
        served_model: the name of one of the engine's models; None for the first.
        key: the engine's API key, if it requires one.
        timeout_seconds: how long a start may take.
    """

    client: DockerClient
    console: Console
    endpoint: str = ENDPOINT
    project: str | None = None
    _: KW_ONLY
    served_model: str | None = None
    key: str | None = field(default=None, repr=False)
    timeout_seconds: float = START_TIMEOUT_SECONDS

    def __post_init__(self) -> None:
        self.endpoint = parse_endpoint(self.endpoint)

    @contextmanager
    def start(self, profile: VllmProfile) -> Iterator[RunningEngine]:
        """Run `profile` in a new container of the service, which stays up; the load is paused while the block lasts.

        Raises:
            UsageError: no such service exists here, or several do; or the image does not accept profiles.
            DependencyDownError: Docker fails, the engine ended, or was not ready in time.
        """
        with _docker_errors():
            engine = self._one("vllm")
            loads = [each for each in self._find("workload", engine.labels[PROJECT]) if each.status == "running"]
            for load in loads:
                load.pause()
        try:
            with _docker_errors():
                container = self._recreate(engine, profile)
            yield self._proved(container, profile)
        finally:
            with _docker_errors():
                for load in loads:
                    load.unpause()

    def _find(self, service: str, project: str | None) -> list[Container]:
        labels = [f"{SERVICE}={service}", *([f"{PROJECT}={project}"] if project else [])]
        found: list[Container] = self.client.containers.list(all=True, filters={"label": labels})
        # `docker compose run` creates one-off containers of a service, which are not the service.
        return [each for each in found if each.labels.get("com.docker.compose.oneoff", "False") != "True"]

    def _one(self, service: str) -> Container:
        found = self._find(service, self.project)
        if not found:
            raise UsageError(f"No compose project here has a service {service}.", "Run `docker compose up -d` first.")
        if len(found) > 1:
            projects = ", ".join(sorted(each.labels[PROJECT] for each in found))
            raise UsageError(f"Several projects have a service {service}: {projects}.", "Set COMPOSE_PROJECT_NAME.")
        return found[0]

    def _recreate(self, old: Container, profile: VllmProfile) -> Container:
        """Replace a container by one that differs in the profile only: a container's variables are fixed.

        `docker compose up` would lose the files, variables and profiles of the command that created the service.
        """
        attributes = old.attrs
        variables = dict(entry.partition("=")[::2] for entry in attributes["Config"]["Env"])
        # Compose sees the changed hash, so `docker compose up -d vllm` restores the user's own profile.
        labels = {**attributes["Config"]["Labels"], CONFIG_HASH: f"hop2rag {profile.name}"}
        config = {
            **{name: value for name, value in attributes["Config"].items() if name != "Hostname"},
            "Env": [f"{name}={value}" for name, value in {**variables, PROFILE: profile.name}.items()],
            "Labels": labels,
            "HostConfig": attributes["HostConfig"],
            "NetworkingConfig": {"EndpointsConfig": _endpoints(old)},
        }
        name = old.name or ""
        old.stop(timeout=STOP_SECONDS)
        old.rename(f"{name}-before")
        try:
            made = self.client.api.create_container_from_config(config, name)  # type: ignore[no-untyped-call]
            container: Container = self.client.containers.get(made["Id"])
            container.start()
        except Exception:
            for left in self.client.containers.list(all=True, filters={"name": f"^/{name}$"}):
                left.remove(force=True)
            old.rename(name)
            old.start()
            raise
        old.remove(force=True)
        return container

    def _proved(self, container: Container, profile: VllmProfile) -> RunningEngine:
        def still_starting(_: float) -> None:
            with _docker_errors():
                container.reload()
                if container.status in {"exited", "dead"} or container.attrs["RestartCount"]:
                    tail = container.logs(tail=15).decode(errors="replace")
                    self.console.print(f"The last lines of {container.name}:\n{tail}", markup=False, highlight=False)
                    raise DependencyDownError(f"The engine in {container.name} ended.", "Its last lines are above.")

        with self.console.status(f"Starting vLLM ({profile.name}) in {container.name}"):
            seconds = wait_ready(self._ask, self.timeout_seconds, still_starting)
        facts = self._facts()
        listener = _server_of(container)
        if reason := refusal(profile, facts, listener):
            raise DependencyDownError(f"vLLM runs, but {reason}.", "Check that the image runs `workload.engine.serve`.")
        self.console.print(f"vLLM {facts.version} ({profile.name}) is ready in {container.name} after {seconds:.0f} s")
        argv, pid = (listener.argv, listener.pid) if listener else (None, None)
        return RunningEngine(self.endpoint, facts, argv, pid, self.key)

    def _facts(self) -> EngineFacts:
        with open_client(self.endpoint, key=self.key) as client:
            return read_facts(client, self.served_model)

    def _ask(self) -> float:
        return ask_canary(self.endpoint, self._facts().model, TIMEOUT_SECONDS, key=self.key)


def docker_launcher(
    console: Console, endpoint: str | None, served_model: str | None = None, key: str | None = None
) -> DockerLauncher:
    """Return the launcher for this host's Docker; `COMPOSE_PROJECT_NAME` names the project, as it does for compose.

    Raises:
        DependencyDownError: Docker does not answer.
    """
    import docker  # noqa: PLC0415 - needed by this launcher alone

    with _docker_errors():
        client = docker.from_env()
        client.ping()
    project = os.environ.get("COMPOSE_PROJECT_NAME")
    return DockerLauncher(client, console, endpoint or ENDPOINT, project, served_model=served_model, key=key)


def _endpoints(container: Container) -> dict[str, Any]:
    """Return the container's networks with its aliases, without its short id, which Docker adds."""
    return {
        network: {"Aliases": [alias for alias in settings.get("Aliases") or () if alias != container.short_id]}
        for network, settings in container.attrs["NetworkSettings"]["Networks"].items()
    }


def _server_of(container: Container) -> Listener | None:
    """Return the server's process as Docker shows it, with its process id if this host has the same one."""
    with _docker_errors():
        rows = container.top(ps_args="-eo pid,args")["Processes"]
    for pid, command in rows:
        argv = tuple(command.split())
        if SERVER_MODULE in argv:
            return Listener(int(pid) if _is_here(int(pid)) else None, argv)
    return None


def _is_here(pid: int) -> bool:
    try:
        return SERVER_MODULE in psutil.Process(pid).cmdline()
    except psutil.Error:
        return False


@contextmanager
def _docker_errors() -> Iterator[None]:
    from docker.errors import DockerException  # noqa: PLC0415 - as in `docker_launcher`

    try:
        yield
    except DockerException as error:
        raise DependencyDownError(f"Docker: {error}.", "Check that it runs and that you may use it.") from error

"""Starts a profile as a process of ours, or reuses the one that already runs with the same flags."""

from __future__ import annotations

import shlex
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from workload.engine.diagnosis import explain_death
from workload.engine.endpoint import TIMEOUT_SECONDS, open_client
from workload.engine.facts import EngineFacts, read_facts
from workload.engine.key import OWN_VARIABLE
from workload.engine.listener import Listener, find_listener, server_flags
from workload.engine.probe import ask_canary, wait_ready
from workload.engine.profile import Device, VllmProfile, environment
from workload.errors import DependencyDownError, UsageError
from workload.process import ChildProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from rich.console import Console

    from workload.engine.install import EngineInstallation

HOST = "127.0.0.1"
START_TIMEOUT_SECONDS = 300.0
"""A CPU engine is ready in half a minute; a 7B model on a slow disk takes minutes."""


@dataclass(frozen=True)
class RunningEngine:
    """An engine that has answered a canary and shows what its profile asks for.

    Attributes:
        endpoint: its URL, without `/v1`.
        facts: what it tells about itself.
        argv: its command line, None if it is not seen from here.
        pid: its process id, None if it is not seen from here.
        key: what it asks for at `/v1`; None if it asks for none.
    """

    endpoint: str
    facts: EngineFacts
    argv: tuple[str, ...] | None
    pid: int | None
    key: str | None = field(default=None, repr=False)

    @property
    def has_random_weights(self) -> bool | None:
        """Whether its model computes with random weights; None where its command line is not seen."""
        return None if self.argv is None else (server_flags(self.argv) or {}).get("--load-format") == "dummy"


class Launcher(Protocol):
    """Brings a profile up for the length of a `with` block."""

    def start(self, profile: VllmProfile) -> AbstractContextManager[RunningEngine]:
        """Return a context whose value runs `profile`, proved."""


class ProcessLauncher:
    """Starts engines of an installation on a port of this host.

    Args:
        installation: interpreter, model and version.
        log_folder: where `vllm-<profile>.log` goes.
        console: where progress and, on failure, the last log lines go.
        port: where the engine listens.
        device: what vLLM was built for.
        extra: further arguments of the server, after the profile's.
        timeout_seconds: how long a start may take.
        canary_timeout_seconds: how long a canary may take before it counts as unanswered.
        key: what the engine shall ask for; it is told by its environment.
    """

    def __init__(
        self,
        installation: EngineInstallation,
        log_folder: Path,
        console: Console,
        port: int = 8000,
        device: Device = "cpu",
        extra: Sequence[str] = (),
        timeout_seconds: float = START_TIMEOUT_SECONDS,
        canary_timeout_seconds: float = TIMEOUT_SECONDS,
        key: str | None = None,
    ) -> None:
        self._installation = installation
        self._log_folder = log_folder
        self._console = console
        self._port = port
        self._device = device
        self._extra = extra
        self._timeout_seconds = timeout_seconds
        self._canary_timeout_seconds = canary_timeout_seconds
        self._key = key
        self._endpoint = f"http://{HOST}:{port}"

    def argv(self, profile: VllmProfile) -> tuple[str, ...]:
        """Return the command line of `profile` here."""
        argv = profile.argv(
            self._installation.vllm_version,
            python=str(self._installation.python),
            model=str(self._installation.model),
            served_model_name=self._installation.served_model_name,
            port=self._port,
            host=HOST,
            device=self._device,
        )
        return (*argv, *self._extra)

    @contextmanager
    def start(self, profile: VllmProfile) -> Iterator[RunningEngine]:
        """Run `profile`, and stop it at the end; one that already ran with the same flags is left running.

        Raises:
            UsageError: the port is served by something else, or vLLM does not know a flag.
            MissingPartError: the model or a part of the environment is missing.
            DependencyDownError: the engine died, was not ready in time, or does not show what it was started with.
        """
        argv = self.argv(profile)
        if listener := find_listener(self._port):
            yield self._reuse(profile, argv, listener)
            return
        log = self._log_folder / f"vllm-{profile.name}.log"
        # `python -m` would look for modules in our working directory first, whatever lies there.
        # The service name tells its spans from the agent's, where spans are exported.
        env = {
            **environment(self._device, sleep_mode=profile.sleep_mode),
            "PYTHONSAFEPATH": "1",
            "OTEL_SERVICE_NAME": "vllm",
            **({OWN_VARIABLE: self._key} if self._key else {}),
        }
        with ChildProcess(argv, log, env) as child:
            seconds = self._await(profile, child)
            engine = self._proved(profile, argv, child.pid)
            self._console.print(
                f"vLLM {engine.facts.version} ({profile.name}) is ready on {self._endpoint} after {seconds:.0f} s"
            )
            yield engine

    def _await(self, profile: VllmProfile, child: ChildProcess) -> float:
        with self._console.status(f"Starting vLLM ({profile.name})") as status:

            def still_starting(seconds: float) -> None:
                status.update(f"Starting vLLM ({profile.name}): {seconds:.0f} s")
                if child.exit_code is not None:
                    raise explain_death(child.log, child.exit_code)

            try:
                return wait_ready(self._ask, self._timeout_seconds, still_starting)
            except Exception:
                self._console.print(f"The last lines of {child.log}:\n{child.tail()}", markup=False, highlight=False)
                raise

    def _ask(self) -> float:
        name = self._installation.served_model_name
        return ask_canary(self._endpoint, name, self._canary_timeout_seconds, key=self._key)

    def _reuse(self, profile: VllmProfile, argv: tuple[str, ...], listener: Listener) -> RunningEngine:
        if server_flags(listener.argv) != server_flags(argv):
            command = command_line(argv, environment(self._device, sleep_mode=profile.sleep_mode))
            raise UsageError(
                f"Port {self._port} is served by {listener}, not by vLLM with the flags of {profile.name}.",
                f"Stop it or pick another port; the right one starts with: {command}",
            )
        self._ask()
        self._console.print(f"Reusing the vLLM ({profile.name}) that runs on {self._endpoint}; it stays up")
        return self._proved(profile, listener.argv, listener.pid)

    def _proved(self, profile: VllmProfile, argv: tuple[str, ...], pid: int | None) -> RunningEngine:
        with open_client(self._endpoint, key=self._key) as client:
            facts = read_facts(client)
        if mismatch := profile.mismatch(facts):
            raise DependencyDownError(f"vLLM runs, but {mismatch}.", "This vLLM does not hold the profile.")
        return RunningEngine(self._endpoint, facts, argv, pid, self._key)


def command_line(argv: Sequence[str], env: Mapping[str, str]) -> str:
    """Return a command as one would type it, with its variables in front."""
    return shlex.join((*(f"{name}={value}" for name, value in env.items()), *argv))

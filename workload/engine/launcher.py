"""Starts a profile as a process of ours, or reuses an engine that already runs with the same flags."""

from __future__ import annotations

import shlex
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Protocol

from workload.engine.diagnosis import explain_death
from workload.engine.endpoint import TIMEOUT_SECONDS, open_client
from workload.engine.facts import EngineFacts, read_facts
from workload.engine.key import OWN_VARIABLE
from workload.engine.kv_events import RANKS, compared_flags, events_flags, socket_folder
from workload.engine.probe import ask_canary, wait_ready
from workload.engine.profile import TRACES_FLAG, Device, VllmProfile, environment, server_flags
from workload.errors import DependencyDownError, UsageError
from workload.services.child_environment import ENGINE, SPANS, child_environment
from workload.services.listener import Listener, find_listener
from workload.services.locks import FOLDER, THIS_COMMAND, FileLock, Owner, Requester
from workload.services.process import HOST, ChildProcess, require_own
from workload.services.server_port import ServerPort

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from rich.console import Console

    from workload.engine.install import EngineInstallation

UP = "hop2rag up"
START_TIMEOUT_SECONDS = 300.0
"""A CPU engine is ready in half a minute; a 7B model on a slow disk takes minutes."""


@dataclass(frozen=True)
class RunningEngine:
    """An engine that has answered a canary and matches its profile.

    Attributes:
        endpoint: its URL, without `/v1`.
        argv: its command line, None if it is not visible.
        pid: its process id, None if it is not visible.
        key: its API key for `/v1`; None if it requires none.
        replicas: the servers behind the endpoint, if it is a router's; facts are then the first one's.
    """

    endpoint: str
    facts: EngineFacts
    argv: tuple[str, ...] | None
    pid: int | None
    key: str | None = field(default=None, repr=False)
    _: KW_ONLY
    replicas: tuple[str, ...] = ()

    @property
    def servers(self) -> tuple[str, ...]:
        """The addresses of vLLM itself: each is scraped, a router never."""
        return self.replicas or (self.endpoint,)

    @property
    def has_random_weights(self) -> bool | None:
        """Whether its model has random weights; None if its command line is not visible."""
        return None if self.argv is None else (server_flags(self.argv) or {}).get("--load-format") == "dummy"


class Launcher(Protocol):
    """Runs a profile for the length of a `with` block."""

    def start(self, profile: VllmProfile) -> AbstractContextManager[RunningEngine]:
        """Return a context whose value is an engine that was proved to run `profile`."""


@dataclass(eq=False)
class ProcessLauncher:
    """Starts engines of an installation on a port of this host.

    Args:
        log_folder: where `vllm-<profile>.log` goes.
        console: where progress and, on failure, the last log lines go.
        device: what vLLM was built for.
        extra: further arguments of the server, after the profile's.
        timeout_seconds: how long a start may take.
        canary_timeout_seconds: how long a canary may take before it counts as unanswered.
        key: the API key to require; passed in the engine's environment.
        cache: the folder that contains the locks of our commands; by default the parent of `log_folder`.
    """

    installation: EngineInstallation
    log_folder: Path
    console: Console
    port: int = 8000
    _: KW_ONLY
    device: Device = "cpu"
    extra: Sequence[str] = ()
    timeout_seconds: float = START_TIMEOUT_SECONDS
    canary_timeout_seconds: float = TIMEOUT_SECONDS
    key: str | None = field(default=None, repr=False)
    cache: Path | None = None
    by: Requester = THIS_COMMAND
    child: ChildProcess | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._cache = self.cache or self.log_folder.parent
        self._endpoint = f"http://{HOST}:{self.port}"

    def argv(self, profile: VllmProfile) -> tuple[str, ...]:
        """Return the command line of `profile` here."""
        argv = profile.argv(
            self.installation.vllm_version,
            python=str(self.installation.python),
            model=str(self.installation.model),
            served_model_name=self.installation.served_model_name,
            port=self.port,
            host=HOST,
            device=self.device,
        )
        return (*argv, *self._events(profile), *self.extra)

    def _events(self, profile: VllmProfile) -> tuple[str, ...]:
        """Return the flags of the engine's events. They contain prompts and have no authentication."""
        folder = socket_folder(self._cache) if RANKS not in self.extra else None  # vLLM has no socket for a rank but 0
        if profile.prefix_caching is False or (self.key and folder is None):
            return ()
        return events_flags(self.installation.vllm_version, self.port, folder)

    @contextmanager
    def start(self, profile: VllmProfile, *, shares: bool = True) -> Iterator[RunningEngine]:
        """Run `profile`, and stop it at the end; an engine that already ran with the same flags stays up.

        Waits for a command that starts or stops an engine on the port, and for what a killed one left. `hop2rag up`
        lends the port of an engine with other flags: it stops that engine, and restarts it when we are done.

        Args:
            profile: the profile to start.
            shares: whether to reuse an engine that another command runs.

        Raises:
            UsageError: something else uses the port, or vLLM does not know a flag.
            MissingPartError: the model or a part of the environment is missing.
            DependencyDownError: the engine died, was not ready in time, or does not match its profile.
        """
        argv = self.argv(profile)
        port = ServerPort(self._cache, "the engine", self.port, self.by)
        with ExitStack() as stack:
            stack.callback(port.release)
            if not shares:
                port.take_alone()
            elif not self._taken(port, profile, argv, stack):
                yield self._reuse(profile, argv, port.owner)
                return
            if find_listener(self.port):
                if not shares:
                    raise UsageError(f"Port {self.port} is served by {find_listener(self.port)}.", "Stop it first.")
                yield self._reuse(profile, argv, None)
                return
            log = self.log_folder / f"vllm-{profile.name}.log"
            child = stack.enter_context(ChildProcess(argv, log, self._environment(profile)))
            stack.callback(port.note, child)  # from now on it is no longer ready
            port.note(child)
            seconds = self._await(profile, child)
            engine = self._proved(profile, argv, child.pid)
            port.note(child, is_ready=True)
            self.console.print(
                f"vLLM {engine.facts.version} ({profile.name}) is ready on {self._endpoint} after {seconds:.0f} s"
            )
            self.child = child
            yield engine

    def _taken(self, port: ServerPort, profile: VllmProfile, argv: tuple[str, ...], stack: ExitStack) -> bool:
        """Return whether the port is ours now; False if its engine will do, or is not lent."""
        if port.take(self.timeout_seconds):
            return True
        keeper, listener = port.owner, find_listener(self.port)
        if keeper is None or not is_lent(keeper, listener, argv) or self._will_do(listener, argv):
            return False
        self.console.print(
            f"Borrowing the port of {keeper} for {profile.name}: its engine stops, and restarts afterwards",
            highlight=False,
            soft_wrap=True,
        )
        stack.enter_context(wanted(self._cache, self.port).acquire(by=self.by))
        port.take_when_released(self.timeout_seconds)
        return True

    def _will_do(self, listener: Listener | None, argv: tuple[str, ...]) -> bool:
        """Return whether an engine has the flags of `argv` and answers a canary."""
        if listener is None or compared_flags(listener.argv) != compared_flags(argv):
            return False
        try:
            self._ask()
        except DependencyDownError:
            return False
        return True

    def _environment(self, profile: VllmProfile) -> dict[str, str]:
        names = (*ENGINE, *SPANS) if any(word.startswith(TRACES_FLAG) for word in self.extra) else ENGINE
        return {
            **child_environment(names),
            **environment(self.device, sleep_mode=profile.sleep_mode),
            # `python -m` would import modules from our working directory first.
            "PYTHONSAFEPATH": "1",
            # The service name separates its spans from the agent's.
            "OTEL_SERVICE_NAME": "vllm",
            **({OWN_VARIABLE: self.key} if self.key else {}),
        }

    def _await(self, profile: VllmProfile, child: ChildProcess) -> float:
        with self.console.status(f"Starting vLLM ({profile.name})") as status:

            def still_starting(seconds: float) -> None:
                status.update(f"Starting vLLM ({profile.name}): {seconds:.0f} s")
                if child.exit_code is not None:
                    raise explain_death(child.log, child.exit_code)

            try:
                seconds = wait_ready(self._ask, self.timeout_seconds, still_starting)
                require_own(child, self.port, "vLLM")
            except Exception:
                self.console.print(f"The last lines of {child.log}:\n{child.tail()}", markup=False, highlight=False)
                raise
            return seconds

    def _ask(self) -> float:
        name = self.installation.served_model_name
        return ask_canary(self._endpoint, name, self.canary_timeout_seconds, key=self.key)

    def _reuse(self, profile: VllmProfile, argv: tuple[str, ...], owner: Owner | None) -> RunningEngine:
        listener = find_listener(self.port) or Listener(None, ())
        if compared_flags(listener.argv) != compared_flags(argv):
            command = command_line(argv, environment(self.device, sleep_mode=profile.sleep_mode))
            server = f"{owner}, whose engine is {listener}" if owner else str(listener)
            raise UsageError(
                f"Port {self.port} is served by {server}, not by vLLM with the flags of {profile.name}.",
                f"Stop it or pick another port with --engine-port; the right one starts with: {command}",
            )
        self._ask()
        self.console.print(f"Reusing the vLLM ({profile.name}) that runs on {self._endpoint}; it stays up")
        return self._proved(profile, listener.argv, listener.pid)

    def _proved(self, profile: VllmProfile, argv: tuple[str, ...], pid: int | None) -> RunningEngine:
        with open_client(self._endpoint, key=self.key) as client:
            facts = read_facts(client)
        if mismatch := profile.mismatch(facts):
            raise DependencyDownError(
                f"vLLM started, but {mismatch}.", f"Use a vLLM that supports the profile {profile.name}."
            )
        return RunningEngine(self._endpoint, facts, argv, pid, self.key)


def wanted(cache: Path, port: int) -> FileLock:
    """Return the lock of the command that waits until `hop2rag up` lends its engine's port."""
    return FileLock(cache / FOLDER, f"the engine's port {port}", f"wanted-{port}")


def is_lent(keeper: Owner, listener: Listener | None, argv: Sequence[str]) -> bool:
    """Return whether the owner is `up`, with an engine of the same model as `argv` or one that has died."""
    if keeper.command != UP or listener is None:
        return keeper.command == UP
    theirs, ours = server_flags(listener.argv) or {}, server_flags(argv) or {}
    return all(theirs.get(flag) == ours.get(flag) for flag in ("--model", "--served-model-name", "--host"))


def command_line(argv: Sequence[str], env: Mapping[str, str]) -> str:
    """Return a command as typed in a shell, with its variables in front."""
    return shlex.join((*(f"{name}={value}" for name, value in env.items()), *argv))

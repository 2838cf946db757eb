"""Uses a vLLM that another user started, and refuses an arm that it does not prove."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from workload.engine.endpoint import TIMEOUT_SECONDS, open_client, parse_endpoint
from workload.engine.facts import EngineFacts, read_facts
from workload.engine.launcher import RunningEngine, command_line
from workload.engine.probe import ask_canary
from workload.engine.profile import SERVER_MODULE, VllmProfile, environment, server_flags
from workload.errors import DependencyDownError, UsageError
from workload.services.listener import Listener, find_listener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console

POLL_SECONDS = 2.0
SILENT_SECONDS = 60.0
"""An engine that restarts answers sooner; one with a wrong flag never does, and only its log says so."""

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(eq=False)
class AttachLauncher:
    """Attaches to the server at an endpoint, which stays up.

    Args:
        endpoint: its URL; checked at once (`UsageError`).
        canary_timeout_seconds: how long a canary may take before it counts as unanswered.
        patience_seconds: how long to wait until the server is restarted with the arm.
        served_model: the name of one of the server's models; None for the first.
        key: the server's API key, if it requires one.
        replicas: returns the servers behind the endpoint; none if it is a server itself.
        command: what starts a profile there, with `{profile}` for its name; by default vLLM's own command line.
    """

    endpoint: str
    console: Console
    _: KW_ONLY
    canary_timeout_seconds: float = TIMEOUT_SECONDS
    patience_seconds: float = 0.0
    command: str | None = None
    served_model: str | None = None
    key: str | None = field(default=None, repr=False)
    replicas: Callable[[], tuple[str, ...]] = tuple
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        self.endpoint = parse_endpoint(self.endpoint)

    @contextmanager
    def start(self, profile: VllmProfile) -> Iterator[RunningEngine]:
        """Prove that the server runs `profile`; with patience, ask for it once and wait until it does.

        Raises:
            UsageError: it does not, or does not show that it does; with the command that starts the right one.
            DependencyDownError: it is unreachable, hangs, or is not vLLM.
        """
        engine = self._wait_for(profile)
        behind = f", a router of {', '.join(engine.replicas)}" if engine.replicas else ""
        self.console.print(f"Attached to vLLM {engine.facts.version} ({profile.name}) on {self.endpoint}{behind}")
        yield engine

    def _wait_for(self, profile: VllmProfile) -> RunningEngine:
        until = self.clock() + self.patience_seconds
        asked, answered, named = False, self.clock(), False
        while True:
            try:
                return self._prove(profile)
            except (UsageError, DependencyDownError) as error:
                now, is_silent = self.clock(), isinstance(error, DependencyDownError)
                if now >= until:
                    raise
                # While an engine starts it is merely unreachable, so the user is asked only once.
                if not is_silent and not asked:
                    asked = True
                    self._say(f"{error}\nWaiting for it, at most {self.patience_seconds:.0f} s.")
                if not is_silent:
                    answered, named = now, False
                elif now - answered >= SILENT_SECONDS and not named:
                    named = True
                    self._say(
                        f"{self.endpoint} has been silent for {now - answered:.0f} s: {error} See the engine's log."
                    )
            self.sleep(POLL_SECONDS)

    def _say(self, text: str) -> None:
        # A command is for copying: it must not be wrapped or read as markup.
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _prove(self, profile: VllmProfile) -> RunningEngine:
        """Prove the arm on the server, or on each behind a router: calls may reach any of them."""
        replicas = self.replicas()
        proved = [self._prove_server(server, profile) for server in replicas or (self.endpoint,)]
        first = proved[0]
        if line := difference(proved):
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)
        return replace(first, endpoint=self.endpoint, pid=None, replicas=replicas) if replicas else first

    def _prove_server(self, server: str, profile: VllmProfile) -> RunningEngine:
        with open_client(server, self.canary_timeout_seconds, key=self.key) as client:
            facts = read_facts(client, self.served_model)
        ask_canary(server, facts.model, self.canary_timeout_seconds, key=self.key)
        listener = _local_listener(server)
        if reason := refusal(profile, facts, listener):
            command = self._right_command(server, profile, facts)
            raise UsageError(f"{server} does not match the arm: {reason}.", command)
        argv, pid = (listener.argv, listener.pid) if listener else (None, None)
        return RunningEngine(server, facts, argv, pid, self.key)

    def _right_command(self, server: str, profile: VllmProfile, facts: EngineFacts) -> str:
        if self.command:
            return f"Start it with: {self.command.replace('{profile}', profile.name)}"
        if facts.version is None:
            return "Start a vLLM whose /version can be read."
        parts = urlsplit(server)
        argv = profile.argv(
            facts.version,
            python="python",
            model=facts.model_path or facts.adapter_of or facts.model,
            served_model_name=facts.adapter_of or facts.model,
            port=parts.port or 8000,
            host=parts.hostname or "127.0.0.1",
        )
        return f"Start it with: {command_line(argv, environment('cuda', sleep_mode=profile.sleep_mode))}"


def _local_listener(server: str) -> Listener | None:
    parts = urlsplit(server)
    if parts.hostname not in LOOPBACK:
        return None
    return find_listener(parts.port or (443 if parts.scheme == "https" else 80))


def difference(engines: Sequence[RunningEngine]) -> str | None:
    """Return a line that says in which facts engines of one fleet differ; None if in none that matter."""
    found = []
    for name in ("version", "model", "block_size", "max_model_len", "num_gpu_blocks", "prefix_caching"):
        values = {engine.endpoint: getattr(engine.facts, name) for engine in engines}
        if len({*values.values()}) > 1:
            found.append(f"{name} ({', '.join(f'{value} on {server}' for server, value in values.items())})")
    return (
        f"The engines differ in {'; '.join(found)}. Facts that need one value are the first one's." if found else None
    )


def refusal(profile: VllmProfile, facts: EngineFacts, listener: Listener | None) -> str | None:
    """Return why a server's facts and its command line, if visible, do not prove `profile`; None if they do."""
    if facts.version is None:
        return "/version shows no release, so its flags and metrics are unknown"
    if mismatch := profile.mismatch(facts):
        return f"{mismatch} (vLLM {facts.version})"
    needed = server_flags((SERVER_MODULE, *profile.unreported_flags())) or {}
    seen = (server_flags(listener.argv) if listener else None) or {}
    missing = [f"{flag} {value}".strip() for flag, value in needed.items() if seen.get(flag) != value]
    if missing:
        return f"its command line does not show {', '.join(missing)}, which no API does (vLLM {facts.version})"
    return None

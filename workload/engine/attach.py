"""Uses a vLLM that another user started, and refuses an arm that it does not prove."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from workload.engine.endpoint import TIMEOUT_SECONDS, open_client, parse_endpoint
from workload.engine.facts import EngineFacts, read_facts
from workload.engine.launcher import RunningEngine, command_line
from workload.engine.probe import ask_canary
from workload.engine.profile import SERVER_MODULE, Device, VllmProfile, environment, server_flags
from workload.errors import DependencyDownError, UsageError
from workload.services.listener import Listener, find_listener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

POLL_SECONDS = 2.0
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class AttachLauncher:
    """Attaches to the server at an endpoint, which stays up.

    Args:
        endpoint: its URL; checked at once (`UsageError`).
        console: where progress goes.
        device: what the server runs on, for the command that is shown when an arm is refused.
        canary_timeout_seconds: how long a canary may take before it counts as unanswered.
        find: returns the process that listens on a port of this host.
        patience_seconds: how long to wait until the server is restarted with the arm.
        served_model: the name of one of the server's models; None for the first.
        key: the server's API key, if it requires one.
        command: what starts a profile there, with `{profile}` for its name; by default vLLM's own command line.
        clock: seconds, monotonic.
        sleep: waits the given seconds.
    """

    def __init__(
        self,
        endpoint: str,
        console: Console,
        device: Device = "cuda",
        canary_timeout_seconds: float = TIMEOUT_SECONDS,
        find: Callable[[int], Listener | None] = find_listener,
        patience_seconds: float = 0.0,
        command: str | None = None,
        served_model: str | None = None,
        key: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._endpoint = parse_endpoint(endpoint)
        self._console = console
        self._device = device
        self._canary_timeout_seconds = canary_timeout_seconds
        self._find = find
        self._patience_seconds = patience_seconds
        self._command = command
        self._served_model = served_model
        self._key = key
        self._clock = clock
        self._sleep = sleep

    @contextmanager
    def start(self, profile: VllmProfile) -> Iterator[RunningEngine]:
        """Prove that the server runs `profile`; with patience, ask for it once and wait until it does.

        Raises:
            UsageError: it does not, or does not show that it does; with the command that starts the right one.
            DependencyDownError: it is unreachable, hangs, or is no vLLM.
        """
        engine = self._wait_for(profile)
        self._console.print(f"Attached to vLLM {engine.facts.version} ({profile.name}) on {self._endpoint}")
        yield engine

    def _wait_for(self, profile: VllmProfile) -> RunningEngine:
        until = self._clock() + self._patience_seconds
        asked = False
        while True:
            try:
                return self._prove(profile)
            except (UsageError, DependencyDownError) as error:
                if self._clock() >= until:
                    raise
                # While an engine starts it is merely unreachable, so the user is asked only once.
                if isinstance(error, UsageError) and not asked:
                    asked = True
                    text = f"{error}\nWaiting for it, at most {self._patience_seconds:.0f} s."
                    # The command is for copying: it must not be wrapped or read as markup.
                    self._console.print(text, markup=False, highlight=False, soft_wrap=True)
            self._sleep(POLL_SECONDS)

    def _prove(self, profile: VllmProfile) -> RunningEngine:
        with open_client(self._endpoint, self._canary_timeout_seconds, key=self._key) as client:
            facts = read_facts(client, self._served_model)
        ask_canary(self._endpoint, facts.model, self._canary_timeout_seconds, key=self._key)
        listener = self._local_listener()
        if reason := refusal(profile, facts, listener):
            raise UsageError(f"{self._endpoint} does not match the arm: {reason}.", self._right_command(profile, facts))
        argv, pid = (listener.argv, listener.pid) if listener else (None, None)
        return RunningEngine(self._endpoint, facts, argv, pid, self._key)

    def _local_listener(self) -> Listener | None:
        parts = urlsplit(self._endpoint)
        if parts.hostname not in LOOPBACK:
            return None
        return self._find(parts.port or (443 if parts.scheme == "https" else 80))

    def _right_command(self, profile: VllmProfile, facts: EngineFacts) -> str:
        if self._command:
            return f"Start it with: {self._command.replace('{profile}', profile.name)}"
        if facts.version is None:
            return "Start a vLLM whose /version can be read."
        parts = urlsplit(self._endpoint)
        argv = profile.argv(
            facts.version,
            python="python",
            model=facts.model_path or facts.adapter_of or facts.model,
            served_model_name=facts.adapter_of or facts.model,
            port=parts.port or 8000,
            host=parts.hostname or "127.0.0.1",
            device=self._device,
        )
        return f"Start it with: {command_line(argv, environment(self._device, sleep_mode=profile.sleep_mode))}"


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

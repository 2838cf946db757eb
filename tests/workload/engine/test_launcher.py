"""Starting, proving, reusing and stopping an engine, with a stub in vLLM's place."""

from __future__ import annotations

import os
import signal
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import psutil
import pytest

from workload.engine.launcher import command_line
from workload.engine.profile import PROFILES
from workload.errors import DependencyDownError, UsageError
from workload.services.listener import find_listener

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rich.console import Console

    from workload.engine.launcher import ProcessLauncher

    Build = Callable[..., ProcessLauncher]


def core_pid(tmp_path: Path, profile: str) -> int:
    """Return the pid of the stub's child, which it prints to its log."""
    return int((tmp_path / "logs" / f"vllm-{profile}.log").read_text().split("core ")[1].split()[0])


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(("name", "caching"), [("prefix-off", False), ("prefix-on", True)])
def test_a_started_engine_shows_its_arm(launcher: Build, name: str, caching: bool) -> None:
    """Leaving a flag out is how an A/B run once compared caching with caching: the value comes from the server."""
    with launcher().start(PROFILES[name]) as engine:
        assert engine.facts.prefix_caching is caching
        assert engine.facts.version == "0.32.0"
        assert engine.pid is not None
        assert psutil.Process(engine.pid).is_running()


def test_stopping_leaves_no_process(launcher: Build, tmp_path: Path, port: int) -> None:
    """An engine core that stays keeps gigabytes and slows every later measurement."""
    with launcher().start(PROFILES["base"]) as engine:
        core = core_pid(tmp_path, "base")
        assert is_alive(core)
    assert engine.pid is not None
    assert not is_alive(engine.pid)
    assert not is_alive(core)
    assert find_listener(port) is None


def test_a_killed_server_leaves_no_core(launcher: Build, tmp_path: Path) -> None:
    """The core of a killed API server belongs to init then: looking for children would miss it."""
    with launcher().start(PROFILES["base"]) as engine:
        core = core_pid(tmp_path, "base")
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        deadline = time.monotonic() + 5
        while is_alive(engine.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert is_alive(core)
    assert not is_alive(core)


def test_an_unknown_flag_is_named(launcher: Build, console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    """A removed flag kills the server; the user must read which one, not a time-out five minutes later."""
    monkeypatch.setenv("VLLM_STUB", "unknown-flag")
    with pytest.raises(UsageError, match="unrecognized arguments: --disable-log-requests"):
        launcher().start(PROFILES["base"]).__enter__()
    assert "unrecognized arguments" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_crash_quotes_the_first_error(launcher: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """VLLM's last line only points upwards; the first error is the cause."""
    monkeypatch.setenv("VLLM_STUB", "crash")
    with pytest.raises(DependencyDownError, match=r"exit code 1 .*ValueError: bad luck"):
        launcher().start(PROFILES["base"]).__enter__()


def test_a_hanging_engine_is_not_ready(
    launcher: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    """/health answers 200 while the engine hangs: only a canary shows it, and nothing may be left behind."""
    monkeypatch.setenv("VLLM_STUB", "hang")
    with pytest.raises(DependencyDownError, match=r"not ready within 2 s.*did not answer a canary"):
        launcher(timeout_seconds=2, canary_timeout_seconds=0.3).start(PROFILES["base"]).__enter__()
    assert not is_alive(core_pid(tmp_path, "base"))
    assert find_listener(port) is None


def test_a_server_that_shows_another_arm_is_refused(launcher: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vLLM that ignores a flag would make an A/B run compare an arm with itself."""
    monkeypatch.setenv("VLLM_STUB", "wrong-arm")
    with pytest.raises(DependencyDownError, match="enable_prefix_caching=True, profile prefix-off needs False"):
        launcher().start(PROFILES["prefix-off"]).__enter__()


def test_a_running_engine_is_reused_and_stays(launcher: Build) -> None:
    """`run` during `up` must neither start a second engine nor stop the one it did not start."""
    with launcher().start(PROFILES["prefix-on"]) as first:
        with launcher().start(PROFILES["prefix-on"]) as second:
            assert second.pid == first.pid
        assert first.pid is not None
        assert is_alive(first.pid)


def test_other_flags_are_refused_with_the_command(launcher: Build) -> None:
    """The remedy is a command to paste: guessing flags is where the arms go wrong."""
    with launcher().start(PROFILES["prefix-on"]), pytest.raises(UsageError, match="--no-enable-prefix-caching"):
        launcher().start(PROFILES["prefix-off"]).__enter__()


def test_a_foreign_server_is_refused(launcher: Build, port: int, tmp_path: Path) -> None:
    """A port in use by another program is reported before an engine spends half a minute to find out."""
    with HTTPServer(("127.0.0.1", port), BaseHTTPRequestHandler):
        with pytest.raises(UsageError, match=f"Port {port} is served by process {os.getpid()}"):
            launcher().start(PROFILES["base"]).__enter__()
        assert not (tmp_path / "logs").exists()


def test_the_command_can_be_pasted() -> None:
    """A path with a blank must survive the shell."""
    assert command_line(("py", "--model", "a b"), {"K": "1"}) == "K=1 py --model 'a b'"

"""One engine a port, whoever starts it and when: two at once, one that was killed, a stranger who comes in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.stubs.waiting import until
from workload.engine import launcher as launcher_module
from workload.engine.launcher import UP, is_lent
from workload.engine.profile import PROFILES
from workload.errors import Hop2RagError, UsageError
from workload.services.listener import Listener, find_listener
from workload.services.locks import Requester, port_lock
from workload.services.process import ChildProcess, group_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from workload.engine.launcher import ProcessLauncher

    Build = Callable[..., ProcessLauncher]

ROOT = Path(__file__).parents[3]
HOLDER = """
import io, sys
from pathlib import Path
from rich.console import Console
from workload.engine.install import EngineInstallation
from workload.engine.launcher import ProcessLauncher
from workload.engine.profile import PROFILES
folder, port = Path(sys.argv[1]), int(sys.argv[2])
installation = EngineInstallation(folder / "python", folder / "model", "stub-model", "0.32.0")
launcher = ProcessLauncher(installation, folder / "logs", Console(file=io.StringIO()), port)
with launcher.start(PROFILES["base"]) as engine:
    print(engine.pid, flush=True)
    sys.stdin.read()
"""


class Stranger(ThreadingHTTPServer):
    """Somebody else's server, in this process: it answers as a vLLM does, flags apart."""

    allow_reuse_port = True

    class Handler(BaseHTTPRequestHandler):
        """Answers a canary."""

        def do_POST(self) -> None:
            """Complete one token."""
            body = json.dumps({"choices": [{"text": "!"}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), self.Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()


def test_row_22_two_at_once_get_one_engine(
    launcher: Build, tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first loads, no port answers: a second that only looks starts another one, on the same memory."""
    gate, said, engines = tmp_path / "gate", list[str](), list[int | None]()
    monkeypatch.setenv("VLLM_STUB_GATE", str(gate))
    over = threading.Event()

    def start(by: Requester) -> None:
        with launcher(by=by).start(PROFILES["base"]) as engine:
            engines.append(engine.pid)
            over.wait(60)

    first = threading.Thread(target=start, args=(Requester("hop2rag up"),))
    first.start()
    until((tmp_path / "logs" / "vllm-base.log").exists)
    second = threading.Thread(target=start, args=(Requester("hop2rag ask", say=said.append),))
    second.start()
    until(lambda: said)
    assert f"Waiting for hop2rag up (process {os.getpid()}, since" in said[0]
    assert len([child for child in psutil.Process().children() if str(port) in child.cmdline()]) == 1
    gate.touch()
    until(lambda: len(engines) == 2)
    assert engines[0] == engines[1]
    over.set()
    first.join()
    second.join()
    assert find_listener(port) is None


@pytest.mark.parametrize("mode", ["mute", "shares", ""])
def test_a_stranger_s_answer_is_no_proof(
    launcher: Build, port: int, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """A server that comes between our look and our start answers the canary; memory and restarts would be wrong."""
    monkeypatch.setenv("VLLM_STUB", mode)
    children = list[ChildProcess]()
    with ExitStack() as stack:

        def start(argv: tuple[str, ...], log: Path, env: dict[str, str]) -> ChildProcess:
            stranger = stack.enter_context(Stranger(port))
            stack.callback(stranger.shutdown)
            children.append(ChildProcess(argv, log, env))
            return children[0]

        monkeypatch.setattr(launcher_module, "ChildProcess", start)
        with pytest.raises(Hop2RagError, match=rf"process {os.getpid()} .* answers on port {port}|port is taken"):
            launcher().start(PROFILES["base"]).__enter__()
    assert group_of(children[0].pid) == []
    assert find_listener(port) is None


def test_a_killed_owner_blocks_no_start(launcher: Build, tmp_path: Path, port: int) -> None:
    """What it left ends first: reused, a dying engine would end the next run in its middle."""
    launcher()
    argv = [sys.executable, "-c", HOLDER, str(tmp_path), str(port)]
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        first = int(holder.stdout.readline())
        os.kill(first, signal.SIGSTOP)  # it cannot follow the kernel's signal yet
        holder.kill()
        holder.wait()
    threading.Timer(1.0, os.kill, (first, signal.SIGCONT)).start()
    with launcher().start(PROFILES["base"]) as engine:
        assert engine.pid != first
        assert group_of(first) == []


def test_an_engine_with_other_flags_names_its_keeper(launcher: Build) -> None:
    """The user must know what to stop, and that it is theirs."""
    named = Requester("hop2rag load", "live")
    refused = rf"served by hop2rag load \(run live, process {os.getpid()}, since .*--no-enable-prefix-caching"
    with launcher(by=named).start(PROFILES["prefix-on"]), pytest.raises(UsageError, match=refused):
        launcher().start(PROFILES["prefix-off"]).__enter__()


def test_up_takes_no_engine_of_others(launcher: Build) -> None:
    """It would end with them, while `up` says that it is up."""
    with launcher().start(PROFILES["base"]), pytest.raises(UsageError, match=r"is in use by .*process"):
        launcher(by=Requester(UP)).start(PROFILES["base"], shares=False).__enter__()


def test_only_up_lends_and_only_its_own_model(tmp_path: Path) -> None:
    """A model that the user has loaded for half an hour is not swapped for the packaged one."""
    flags = ("-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--served-model-name", "m")
    ours = ("python", *flags, "--model", "m", "--no-enable-prefix-caching")
    with port_lock(tmp_path, "the engine", 1).acquire_now(Requester(UP)):
        up = port_lock(tmp_path, "the engine", 1).owner()
    with port_lock(tmp_path, "the engine", 1).acquire_now(Requester("hop2rag load")):
        load = port_lock(tmp_path, "the engine", 1).owner()
    assert up
    assert load
    assert is_lent(up, Listener(1, ("python", *flags, "--model", "m")), ours)
    assert is_lent(up, None, ours), "its engine has died"
    assert not is_lent(up, Listener(1, ("python", *flags, "--model", "other")), ours)
    assert not is_lent(load, Listener(1, ("python", *flags, "--model", "m")), ours)

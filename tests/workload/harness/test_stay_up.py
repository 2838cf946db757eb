"""`up` with a stub engine and the real Prometheus and Alertmanager: one owner of each, from before until after."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import yaml
from rich.console import Console
from rich.progress import Progress

from tests.stubs.agent import StubEmbedder, StubStore
from tests.stubs.waiting import until
from workload.compose.configs import LIVE
from workload.corpus.default import Corpus
from workload.corpus.synthetic import generate
from workload.engine.install import EngineInstallation
from workload.engine.launcher import ProcessLauncher
from workload.engine.profile import PROFILES
from workload.errors import UsageError
from workload.harness import ask
from workload.harness.stay_up_state import FILE, UpState, read_up_state
from workload.harness.take_down import bring_down
from workload.paths import cache_dir
from workload.services.listener import find_listener
from workload.services.locks import FileLock, Requester, engine_lock, port_lock
from workload.services.process import free_port, left_of
from workload.services.prometheus import NoDataError
from workload.services.prometheus_binary import PrometheusBinary, find_alertmanager, find_prometheus
from workload.services.prometheus_server import LocalPrometheus, alertmanager_in, loopback_session
from workload.services.targets import ArmLabels
from workload.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
STUB = ROOT / "tests" / "workload" / "engine" / "stub_vllm.py"

pytestmark = pytest.mark.prometheus


class Embedder(StubEmbedder):
    """Nothing to load."""

    def load(self) -> None:
        """Load nothing."""


@dataclass
class Bench:
    """A cache of its own, with the real binaries, and as many `up` as a test starts."""

    folder: Path
    engine: int = field(default_factory=free_port)
    prometheus: int = field(default_factory=free_port)
    alertmanager: int = field(default_factory=free_port)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cache, self.python, self.gate = self.folder / "cache", self.folder / "python", self.folder / "gate"
        self.cache.mkdir()
        find_alertmanager(cache_dir())
        self.binary: PrometheusBinary = find_prometheus(cache_dir())
        for package in ("prometheus", "prometheus-alertmanager"):
            if (cache_dir() / package).exists():
                (self.cache / package).symlink_to(cache_dir() / package)
        self.python.write_text(f'#!/bin/sh\nexec {sys.executable} {STUB} "$@"\n')
        self.python.chmod(0o700)
        self.gate.touch()

    def up(self) -> subprocess.Popen[str]:
        """Start one; it may end at once."""
        path = os.pathsep.join([str(self.binary.prometheus.parent), os.environ["PATH"]])
        environ = {**os.environ, "HOP2RAG_CACHE": str(self.cache), "VLLM_STUB_GATE": str(self.gate), "PATH": path}
        ports = map(str, (self.engine, self.prometheus, self.alertmanager))
        argv = [sys.executable, "-m", "tests.stubs.up_process", str(self.python), *ports]
        process = subprocess.Popen(argv, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True)
        self.started.append(process)
        return process

    def until_up(self, process: subprocess.Popen[str]) -> list[str]:
        """Return what it said until it is up."""
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line.strip())
            if "Ctrl-C" in line:
                return said
        raise AssertionError(said)

    @property
    def up_state(self) -> UpState:
        """What the `up` that runs has written."""
        found = read_up_state(self.cache)
        assert found is not None
        return found

    def launcher(self, **more: Any) -> ProcessLauncher:
        """Return what a run starts its engines by."""
        installation = EngineInstallation(self.python, Path("model"), "stub-model", "0.32.0")
        console = Console(file=io.StringIO(), width=200)
        return ProcessLauncher(installation, self.folder / "logs", console, self.engine, cache=self.cache, **more)

    def local(self, **more: Any) -> LocalPrometheus:
        """Return the Prometheus of a run."""
        return LocalPrometheus(self.binary, self.cache, loopback_session(), port=self.prometheus, **more)

    def config(self) -> str:
        """Return what Prometheus is configured with."""
        return (self.cache / f"prometheus-{self.prometheus}" / "prometheus.yml").read_text()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Return a bench on which nothing is left."""
    made = Bench(tmp_path)
    yield made
    for process in made.started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    shutil.rmtree(made.cache, ignore_errors=True)


def scraped(prometheus: LocalPrometheus, query: str) -> bool:
    """Return whether a query finds something."""
    try:
        return bool(prometheus.client.query(query))
    except NoDataError:
        return False


def test_row_22_two_at_once_and_a_down_in_the_middle(bench: Bench) -> None:
    """Seen: two engines on one port, the second recorded, and the first left running when all was down."""
    bench.gate.unlink()
    first = bench.up()
    until(lambda: read_up_state(bench.cache) and {"Alertmanager", "Prometheus"} <= bench.up_state.children.keys())
    assert bench.up_state.pid == first.pid, "written before the engine is there"
    second = bench.up()
    reported, _ = second.communicate(timeout=60)
    assert second.returncode == 2
    assert f"is in use by hop2rag up (process {first.pid}, since" in reported
    assert "hop2rag down" in reported
    bench.gate.touch()
    bench.until_up(first)
    children = dict(bench.up_state.children)
    assert children.keys() >= {"engine", "Prometheus", "Alertmanager"}
    used, refused = engine_lock(bench.cache, f"localhost:{bench.engine}"), r"hop2rag soak \(run night, process .* uses"
    with used.acquire_now(Requester("hop2rag soak", "night")), pytest.raises(UsageError, match=refused):
        bring_down(bench.cache)
    assert first.poll() is None
    assert bring_down(bench.cache) == "Stopped the engine and the services that watched it."
    assert first.wait(60) == 0
    assert [name for name, child in children.items() if left_of(child)] == []
    assert not (bench.cache / FILE).exists()
    assert bring_down(bench.cache) == "Nothing is up."


def test_runs_use_what_is_up_and_leave_it_as_it_was(bench: Bench) -> None:
    """One after the other: alerts go on to Alertmanager, the engine is scraped, and lent to a run of other flags."""
    up = bench.up()
    said = bench.until_up(up)
    assert any("borrows its port" in line for line in said)
    first = bench.up_state.children["engine"]
    alone = bench.local()
    until(lambda: scraped(alone, 'up{job="vllm",run="live"} == 1'))
    before = bench.config()
    assert alertmanager_in(before) == f"127.0.0.1:{bench.alertmanager}"
    used = engine_lock(bench.cache, f"127.0.0.1:{bench.engine}")
    with used.acquire(by=Requester("hop2rag run latency", "r")), bench.local(sample_interval_ms=250) as prometheus:
        assert alertmanager_in(bench.config()) == f"127.0.0.1:{bench.alertmanager}"
        fast = {job["job_name"]: job for job in yaml.safe_load(bench.config())["scrape_configs"]}["vllm-fast"]
        assert fast["scrape_interval"] == "250ms"
        with bench.launcher().start(PROFILES["prefix-on"]) as same:
            assert same.pid == first[0]
        with bench.launcher().start(PROFILES["prefix-off"]) as other:
            assert other.pid != first[0]
            assert other.facts.prefix_caching is False
            assert left_of(first) == []
            prometheus.targets.write(ArmLabels("r", "e", "a"), vllm=[other.endpoint])
        assert "engine" not in bench.up_state.children, "it waits for the end of the run, not of the arm"
    until(lambda: "engine" in bench.up_state.children)
    assert bench.up_state.children["engine"] != first
    assert bench.config() == before
    until(lambda: scraped(alone, 'up{job="vllm",run="live"} == 1'))
    until(lambda: not scraped(alone, 'up{run="r"}'))
    # As if a run had been killed: what it left is taken away, and nothing fires on it for long.
    alone.targets.write(ArmLabels("killed", "e", "a"), workload=["127.0.0.1:1"])
    until(lambda: alone.targets.addresses()["workload"] == [])
    assert bring_down(bench.cache) == "Stopped the engine and the services that watched it."


def test_what_ask_does_is_scraped_on_the_engine_that_is_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the flags of that engine; a stack that is up and shows nothing is no observability."""
    up = bench.up()
    bench.until_up(up)
    monkeypatch.setenv("HOP2RAG_CACHE", str(bench.cache))
    monkeypatch.setattr(ask, "MiniLmEmbedder", Embedder)
    monkeypatch.setattr(ask, "open_corpus", lambda *_: Corpus(StubStore(), generate(3, 60, 0)))  # type: ignore[arg-type]
    sizes = {"limit": 1, "max_hops": 1, "k": 1, "engine_port": bench.engine, "request_timeout": 5.0}
    shown = list[ask.Answered]()
    said = io.StringIO()
    before = bench.up_state.children["engine"]
    ask.ask_once("Who?", load_settings(sizes, {}), Progress(console=Console(file=said, width=200)), shown.append)
    assert "Attached to vLLM 0.32.0" in said.getvalue()
    assert shown, "the answer is shown"
    assert bench.up_state.children["engine"] == before
    query = 'max_over_time(hop2rag_questions_total{run="live",job="workload"}[1m]) > 0'
    assert scraped(bench.local(), query), "its one question was recorded before its metrics ended"
    assert not scraped(bench.local(), 'last_over_time(up{job="workload"}[1m]) == 0'), "nor asked after its end"
    assert bring_down(bench.cache) == "Stopped the engine and the services that watched it."


def test_a_killed_up_leaves_nothing_that_is_stuck(bench: Bench) -> None:
    """Kill -9, and begun again at once: the next one waits for what still ends, and its record is its own."""
    up = bench.up()
    bench.until_up(up)
    before = dict(bench.up_state.children)
    os.kill(before["engine"][0], signal.SIGSTOP)  # it ignores the signal that the kernel sends at our death
    up.kill()
    up.wait()
    assert re.fullmatch(r"Stopped the servers that were left: .*engine\.", bring_down(bench.cache))
    assert [name for name, child in before.items() if left_of(child)] == []
    assert find_listener(bench.engine) is None
    again = bench.up()
    bench.until_up(again)
    assert bench.up_state.pid == again.pid
    # What was scraped when it was killed has no mark of its end; nothing may fire on it.
    assert bring_down(bench.cache) == "Stopped the engine and the services that watched it."


def test_the_port_of_a_run_is_not_taken(bench: Bench) -> None:
    """The run would lose its engine between two arms, or its Prometheus with our end."""
    with port_lock(bench.cache, "Prometheus", bench.prometheus).acquire_now(Requester("hop2rag demo")):
        reported, _ = bench.up().communicate(timeout=60)
    assert "is in use by hop2rag demo" in reported
    with engine_lock(bench.cache, f"127.0.0.1:{bench.engine}").acquire_now(Requester("hop2rag run latency", "r")):
        reported, _ = bench.up().communicate(timeout=60)
    assert "is in use by hop2rag run latency (run r, process" in reported
    assert read_up_state(bench.cache) is None


def test_what_the_load_does_is_scraped_while_it_lasts(bench: Bench) -> None:
    """It writes its targets once a lap; taken away between two questions they would be gone for hours."""
    up = bench.up()
    bench.until_up(up)
    alone = bench.local()
    until(lambda: scraped(alone, 'up{job="vllm",run="live"} == 1'))
    before = alone.targets.read()
    with FileLock(alone.targets.folder).load_lock().acquire_now():
        alone.targets.write(LIVE, vllm=[f"http://127.0.0.1:{bench.engine}"], workload=["127.0.0.1:1"])
        until(lambda: scraped(alone, 'up{job="workload",run="live"} == 0'))
        assert alone.targets.are_ours()
    until(lambda: alone.targets.read() == before)


def test_ask_does_not_attach_to_an_engine_that_is_lent(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the engine's claim from the instant at which the run ends, so `up` cannot start it first."""
    monkeypatch.setenv("HOP2RAG_CACHE", str(bench.cache))
    settings = load_settings({"limit": 1, "max_hops": 1, "k": 1, "engine_port": bench.engine}, {})
    me = psutil.Process()
    lent = UpState(
        pid=me.pid,
        created=me.create_time(),
        engine_port=bench.engine,
        prometheus_port=bench.prometheus,
        alertmanager_port=bench.alertmanager,
    )
    lent.write(bench.cache)
    assert ask.pending_restart(settings.places)
    lent.having("engine", (me.pid, me.create_time())).write(bench.cache)
    assert not ask.pending_restart(settings.places)

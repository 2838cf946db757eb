"""The second command on an engine waits and names the first: every command that loads an engine, with every other."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console
from rich.progress import Progress

from tests.stubs.agent import StubEmbedder, StubStore
from tests.stubs.world import StubPrometheus
from workload.corpus.default import Corpus
from workload.corpus.synthetic import generate
from workload.errors import DependencyDownError
from workload.experiments import EXPERIMENTS
from workload.harness import ask, backends, continuous, run
from workload.harness.stay_up import Ports
from workload.services.locks import FileLock, Requester, engine_lock
from workload.services.targets import TargetFiles
from workload.settings import Settings, load_settings
from workload.soak import run as soak_run
from workload.soak.plan import load_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

OWNERS = ["hop2rag run latency", "hop2rag ab", "hop2rag soak", "hop2rag ask", "hop2rag up"]


class Embedder(StubEmbedder):
    """Nothing to load."""

    def load(self) -> None:
        """Load nothing."""


class StartedError(DependencyDownError):
    """The command has come as far as its engine."""


class Said:
    """A terminal that is read while it is written."""

    def __init__(self) -> None:
        self.text = ""
        self.waits = threading.Event()

    def write(self, text: str) -> int:
        """Take what is printed."""
        self.text += text
        if "Ctrl-C gives up" in self.text:
            self.waits.set()
        return len(text)

    def flush(self) -> None:
        """Release everything."""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return settings of runs around which everything is a stub, and whose engine never starts."""
    monkeypatch.setenv("HOP2RAG_CACHE", str(tmp_path / "cache"))

    @contextmanager
    def start(_: object) -> Iterator[Any]:
        raise StartedError("It would start now.")
        yield

    launcher, corpus = SimpleNamespace(start=start), Corpus(StubStore(), generate(3, 60, 0))
    for module in (run, soak_run, ask):
        monkeypatch.setattr(module, "launcher_of", lambda *_: launcher)
        monkeypatch.setattr(module, "MiniLmEmbedder", Embedder)
    for module in (backends, ask):
        monkeypatch.setattr(module, "open_corpus", lambda *_: corpus)
    monkeypatch.setattr(backends, "find_prometheus", lambda _: None)
    monkeypatch.setattr(backends, "LocalPrometheus", StubPrometheus)
    sizes = {"limit": 1, "max_hops": 1, "k": 1, "engine_port": 8123, "results": tmp_path / "results"}
    return load_settings(sizes, {})


def as_run(settings: Settings, progress: Progress) -> None:
    """`run`, and so `ab`, `optimize` and `suite`."""
    run.run_experiment(EXPERIMENTS["latency"], settings, progress)


def as_soak(settings: Settings, progress: Progress) -> None:
    """`soak`."""
    soak_run.run_soak(settings, load_plan({"duration": "1m", "alerts": False}), Ports(), progress)


def as_ask(settings: Settings, progress: Progress) -> None:
    """`ask`."""
    ask.ask_once("Who?", settings, progress, lambda _: None)


@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize("second", [as_run, as_soak, as_ask])
def test_row_22_the_second_waits_and_says_for_whom(
    settings: Settings, tmp_path: Path, second: Callable[[Settings, Progress], None], owner: str
) -> None:
    """Two loads on one engine measure neither, and their targets and receivers are one another's."""
    said, ended = Said(), list[BaseException]()

    def go() -> None:
        try:
            second(settings, Progress(console=Console(file=said, width=200)))  # type: ignore[arg-type]
        except StartedError as error:
            ended.append(error)

    thread = threading.Thread(target=go)
    with engine_lock(tmp_path / "cache", "127.0.0.1:8123").acquire_now(Requester(owner, "first")):
        thread.start()
        assert said.waits.wait(60)
        assert f"Waiting for the engine on 127.0.0.1:8123, which is in use by {owner} (run first, process" in said.text
        assert not ended
    thread.join(60)
    assert ended, "its turn comes with the end of the first"


def test_row_22_the_load_starts_no_engine_between_two_arms(tmp_path: Path) -> None:
    """Between two arms no server listens, and the load would take the run's port."""
    starts, waited = list[str](), list[float]()
    used = engine_lock(tmp_path, "127.0.0.1:8123")
    held = used.acquire_now(Requester("hop2rag run latency"))

    @contextmanager
    def start(_: object) -> Iterator[Any]:
        starts.append("start")
        raise StartedError("It would start now.")
        yield

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        assert starts == []
        if len(waited) == 3:
            held.__exit__(None, None, None)

    held.__enter__()
    load = continuous.ContinuousLoad(
        settings=load_settings({"limit": 1, "max_hops": 1, "k": 1}, {}),
        rate=1.0,
        launcher=SimpleNamespace(start=start),
        targets=TargetFiles(tmp_path / "targets"),
        corpus=Corpus(StubStore(), generate(3, 60, 0)),  # type: ignore[arg-type]
        embedder=Embedder(),
        console=Console(file=Said(), width=200),  # type: ignore[arg-type]
        sleep=sleep,
        engine=used,
    )
    with pytest.raises(StartedError):
        load.run(laps=1)
    assert len(waited) == 3


def test_row_22_a_killed_owner_keeps_no_command_waiting(tmp_path: Path) -> None:
    """The record of a process that is gone is a record, and no lock."""
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "engine-127.0.0.1-8123").write_text('{"command": "hop2rag soak", "pid": 1, "since": 0}')
    assert engine_lock(tmp_path, "127.0.0.1:8123").owner() is None
    with engine_lock(tmp_path, "127.0.0.1:8123").acquire_now():
        assert FileLock(tmp_path).owner() is None

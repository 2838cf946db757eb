"""The continuous load: gentle, endless, out of the way, and back again."""

from __future__ import annotations

import io
import json
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from rich.console import Console

from tests.stubs.agent import StubEmbedder, StubStore
from tests.stubs.vllm import StubVllm, Turn
from workload.corpus.default import Corpus
from workload.corpus.synthetic import generate
from workload.engine.endpoint import open_client
from workload.engine.facts import read_facts
from workload.engine.launcher import RunningEngine
from workload.harness.continuous import ContinuousLoad
from workload.services.locks import FileLock, InUseError
from workload.services.targets import ArmLabels, TargetFiles
from workload.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

QUESTIONS = generate(3, 60, 0)


@pytest.fixture
def stub() -> Iterator[StubVllm]:
    """The engine."""
    with StubVllm() as server:
        yield server


class Bench:
    """A load on a stub engine whose pauses take no time; `between` is called at each of them."""

    def __init__(self, stub: StubVllm, folder: Path) -> None:
        self.stub, self.starts, self.pauses = stub, 0, list[float]()
        self.alerts: list[str] = []
        self.between: Callable[[], object] = lambda: None
        self.targets, self.said = TargetFiles(folder), io.StringIO()
        settings = load_settings({"limit": 1, "max_hops": 1, "k": 5}, {"HOP2RAG_EXPORTER": "exporter:9400"})
        self.load = ContinuousLoad(
            settings=settings,
            rate=0.1,
            launcher=SimpleNamespace(start=self._start),
            targets=self.targets,
            corpus=Corpus(StubStore(), QUESTIONS),
            embedder=StubEmbedder(),
            console=Console(file=self.said, width=200),
            pause_reasons=lambda: self.alerts,
            sleep=self._sleep,
        )

    @contextmanager
    def _start(self, _: object) -> Iterator[Any]:
        self.starts += 1
        with open_client(self.stub.url, 5.0) as client:
            yield RunningEngine(self.stub.url, read_facts(client), None, None)

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.between()

    @property
    def asked(self) -> int:
        """Questions that were begun: each begins with one decomposition."""
        wanted = [request.get("response_format") for request in self.stub.requests]
        return sum(1 for each in wanted if each and each["json_schema"]["name"] == "Decomposition")


def test_it_goes_round_and_round(stub: StubVllm, tmp_path: Path) -> None:
    """Every lap asks the whole corpus in another order, and nothing hits what its earlier self left in the cache."""
    bench = Bench(stub, tmp_path)
    bench.load.run(laps=4)
    assert bench.starts == 4
    assert bench.asked == 4 * len(QUESTIONS)
    orders = [
        request["messages"] for request in stub.requests if "Decomposition" in str(request.get("response_format"))
    ]
    laps = [json.dumps(orders[start : start + 3]) for start in range(0, 12, 3)]
    assert len(set(laps)) > 1
    assert len({request["cache_salt"] for request in stub.requests}) == 4
    assert len(bench.pauses) == 12
    assert 1 < sum(bench.pauses) / len(bench.pauses) < 40, "exponential, 10 s in the mean"


def test_prometheus_finds_it_under_its_own_labels(stub: StubVllm, tmp_path: Path) -> None:
    """No panel is empty, and no experiment's series are mixed with what is merely alive."""
    bench, seen = Bench(stub, tmp_path), dict[str, Any]()

    def look() -> None:
        seen.update({path.stem: json.loads(path.read_text())[0] for path in tmp_path.glob("*.json")})
        seen["metrics"] = httpx.get(f"http://{seen['workload']['targets'][0]}/metrics").text

    bench.between = look
    bench.load.run(laps=1)
    assert seen["vllm"] == {
        "targets": [stub.url.removeprefix("http://")],
        "labels": {"run": "live", "experiment": "load", "arm": "load", "phase": "measured"},
    }
    assert seen["exporter"]["targets"] == ["exporter:9400"]
    assert "hop2rag_questions_total" in seen["metrics"]


def test_it_steps_aside_for_an_experiment(stub: StubVllm, tmp_path: Path) -> None:
    """While it is claimed nothing is sent; afterwards the engine is looked at anew, since it may be another."""
    bench, lock = Bench(stub, tmp_path), FileLock(tmp_path)
    experiment = lock.acquire()
    steps = iter(range(100))
    asked: list[int] = []

    def between() -> None:
        step = next(steps)
        if step == 0:
            experiment.__enter__()
            bench.targets.write(ArmLabels("r", "e", "a"), vllm=["http://other:1"])
        elif step < 5:
            asked.append(bench.asked)
            assert "other:1" in (tmp_path / "vllm.json").read_text(), "the experiment's targets are its own"
        elif step == 5:
            experiment.__exit__(None, None, None)

    bench.between = between
    bench.load.run(laps=2)
    assert asked == [1, 1, 1, 1]
    assert bench.asked == 1 + len(QUESTIONS)
    assert "Paused" in bench.said.getvalue()
    assert "other:1" not in (tmp_path / "vllm.json").read_text()


def test_an_alert_holds_it(stub: StubVllm, tmp_path: Path) -> None:
    """A pool that is nearly full is not filled further by the load that is there to be looked at."""
    bench = Bench(stub, tmp_path)
    steps = iter([["VllmKvCacheNearlyFull"], ["VllmKvCacheNearlyFull"], []])
    asked: list[int] = []

    def between() -> None:
        bench.alerts = next(steps, [])
        asked.append(bench.asked)

    bench.between = between
    bench.load.run(laps=2)
    assert asked[:3] == [1, 1, 1]
    assert bench.asked == 1 + len(QUESTIONS)
    assert "Paused: VllmKvCacheNearlyFull" in bench.said.getvalue()


def test_a_failure_of_the_engine_ends_the_lap(stub: StubVllm, tmp_path: Path) -> None:
    """It may come back as another one: with another block size its reuse bound would be wrong."""
    bench = Bench(stub, tmp_path)
    stub.next_turns.append(Turn(after=0, then="reset"))
    bench.load.run(laps=2)
    assert bench.starts == 2
    assert bench.asked == 1 + len(QUESTIONS)
    assert "attaching again" in bench.said.getvalue()


def test_a_second_load_is_refused_by_the_first_one_s_name(stub: StubVllm, tmp_path: Path) -> None:
    """Each would have the other's metrics scraped no more, and the engine would get twice the load that was asked."""
    bench, second, refused = Bench(stub, tmp_path), Bench(stub, tmp_path), list[str]()

    def between() -> None:
        with pytest.raises(InUseError) as error:
            second.load.run(laps=1)
        refused.append(error.value.cause)

    bench.between = between
    bench.load.run(laps=1)
    assert refused[0].startswith("The continuous load on this Prometheus is in use by ")
    assert second.starts == 0
    second.load.run(laps=1)
    assert second.starts == 1, "its turn is as soon as the first has ended"


def test_nothing_is_attached_to_while_the_engine_is_awaited(stub: StubVllm, tmp_path: Path) -> None:
    """Between the end of a run that borrowed the port of `up` and the start of its engine no server answers."""
    bench = Bench(stub, tmp_path)
    bench.alerts = ["hop2rag up starts its engine"]
    steps = iter(range(100))

    def between() -> None:
        if next(steps) == 2:
            assert bench.starts == 0
            bench.alerts = []

    bench.between = between
    bench.load.run(laps=1)
    assert bench.starts == 1
    assert "Paused: hop2rag up starts its engine" in bench.said.getvalue()

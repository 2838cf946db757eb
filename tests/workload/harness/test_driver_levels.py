"""Levels of one load start cold: the questions of the level before would answer half of the next one's prompts."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from tests.stubs.agent import agent_of, bench, client_of
from tests.stubs.questions import question_of
from tests.stubs.vllm import StubVllm
from workload.experiments.arrivals import poisson
from workload.harness.driver import Driver, Phase
from workload.harness.health_gate import EngineGate
from workload.harness.loops import Tally
from workload.harness.measurement import Measurement
from workload.record.history import NOTHING
from workload.record.journal import Journal, read
from workload.record.results import WARM_UP
from workload.services.targets import ArmLabels

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workload.corpus.hotpotqa import Question

RUN = "20250131-235959-concurrency"


def questions(number: int) -> list[Question]:
    """Return questions that share no words."""
    asked = (" ".join(f"word{index}-{place}" for place in range(20)) for index in range(number))
    return [question_of(index, text) for index, text in enumerate(asked)]


@pytest.fixture
def stub() -> Iterator[StubVllm]:
    """Run a stub server with a prefix cache."""
    with StubVllm() as server:
        yield server


def phase_of(point: str, block: int = 0, suffix: str = "") -> Phase:
    """Return the phase that a measurement gives to a point."""
    labels = ArmLabels(RUN, "concurrency", "low")
    parts = SimpleNamespace(labels=labels, block=block, history=NOTHING)
    return Measurement._phase(cast("Measurement", parts), point, block, suffix)


async def cached_by(stub: StubVllm, folder: Path, phases: list[Phase], asked: list[Question]) -> list[int]:
    """Ask the same questions in each phase; return the cached tokens of each phase."""
    with Journal(folder / "journal.sqlite", {}) as journal:
        meter = bench(16, journal).meter
        async with client_of(stub.url) as client:
            driver = Driver(agent_of(client, max_hops=2), meter, EngineGate(lambda: None))
            for phase in phases:
                await driver.run(phase, asked, 1, tally=Tally(len(asked)), advance=lambda: None)
    names = {row["id"]: row["phase"] for row in read(folder / "journal.sqlite", "question")}
    calls = read(folder / "journal.sqlite", "llm_call")
    return [sum(call["cached_tokens"] for call in calls if names[call["question"]] == phase.name) for phase in phases]


def test_every_level_and_every_warm_up_has_a_salt_of_its_own() -> None:
    """The salt is what keeps the same questions apart; two equal ones would be one warm cache."""
    salts = [
        phase_of(point, block, suffix).salt
        for point in ("c1", "c2", "r0.5")
        for block in (0, 1)
        for suffix in ("", f"-{WARM_UP}")
    ]
    assert len(set(salts)) == len(salts)


async def test_a_level_finds_nothing_of_the_level_before(stub: StubVllm, tmp_path: Path) -> None:
    """The same questions, twice: what the second level has cached is what the first one had, and no more."""
    first, second = await cached_by(stub, tmp_path, [phase_of("c1"), phase_of("c2")], questions(3))
    assert first == second


async def test_without_a_salt_the_second_level_is_served_from_the_first(stub: StubVllm, tmp_path: Path) -> None:
    """The wrong way, for comparison: warm caches made the prototype's levels up to 2.3 times as fast."""
    phases = [Phase(arm="low", block=0, name=name, segment=0, salt="one salt for all") for name in ("c1", "c2")]
    first, second = await cached_by(stub, tmp_path, phases, questions(3))
    assert second > 1.5 * first


async def test_the_open_loop_is_journalled_with_both_instants(stub: StubVllm, tmp_path: Path) -> None:
    """Latency counts from the intended start, so both instants must reach the journal, and they must differ."""
    arrivals = poisson(50.0, 5, seed=0)
    with Journal(tmp_path / "journal.sqlite", {}) as journal:
        meter = bench(16, journal).meter
        async with client_of(stub.url) as client:
            driver = Driver(agent_of(client, max_hops=1), meter, EngineGate(lambda: None))
            tally = Tally(5)
            await driver.run(phase_of("r50"), questions(5), 8, tally=tally, advance=lambda: None, arrivals=arrivals)
    rows = read(tmp_path / "journal.sqlite", "question")
    assert tally.ok == 5
    intended = [row["intended_at"] for row in rows]
    gaps = [later - earlier for earlier, later in pairwise(intended)]
    wanted = [later - earlier for earlier, later in pairwise(arrivals)]
    assert gaps == pytest.approx(wanted, abs=0.005)
    assert all(row["started_at"] >= row["intended_at"] for row in rows)

"""Loads on the stub server: an engine that dies, hangs, cuts or talks nonsense, and an account that is still right.

Times are scaled down to tenths of a second; the waits themselves are proved in test_gate.py on a clock of its own.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.stubs.agent import Bench, StubStore, agent_of, bench, client_of
from tests.stubs.questions import questions_about
from tests.stubs.run import measured
from tests.stubs.vllm import TOO_LONG, StubVllm, Turn, by_node, node_of
from workload.agent.backoff import Breaker
from workload.agent.state import LLM_NODES
from workload.analysis.cache import hit_rates
from workload.engine.probe import ask_canary
from workload.errors import DependencyDownError
from workload.harness import health_gate as gate_module
from workload.harness.driver import Driver, Phase
from workload.harness.health_gate import EngineGate
from workload.harness.loops import Tally
from workload.record.journal import Journal, read
from workload.record.results import read_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from typing import Any

    from workload.corpus.hotpotqa import Question
    from workload.record.results import Row
    from workload.settings import Layout

PATIENCE_SECONDS = 1.0
PLACES = ("Quay", "Ruan", "Senna", "Pell", "Tasp", "Vell", "Dole", "Mara", "Orin", "Harbour", "Choir", "Tin")


def questions(number: int) -> list[Question]:
    """Return questions that share no word at their start."""
    return questions_about((PLACES * 3)[:number])


async def until(happened: Callable[[], bool]) -> None:
    """Wait until something has happened, at most ten seconds."""
    async with asyncio.timeout(10):
        while not happened():  # noqa: ASYNC110 - it happens in another thread, which knows no event of ours
            await asyncio.sleep(0.01)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubVllm]:
    """Return a running stub server; canaries are asked every 20 ms."""
    monkeypatch.setattr(gate_module, "RETRY_SECONDS", 0.02)
    with StubVllm() as server:
        yield server


class Load:
    """One load with its journal, instruments and account."""

    def __init__(
        self,
        stub: StubVllm,
        folder: Path,
        *,
        timeout_seconds: float = 5.0,
        patience_seconds: float = PATIENCE_SECONDS,
        canary_seconds: float = 0.2,
    ) -> None:
        self.stub, self.path, self.canary_seconds = stub, folder / "journal.sqlite", canary_seconds
        self.timeout_seconds, self.patience_seconds = timeout_seconds, patience_seconds
        self.tally = Tally(0)
        self.bench: Bench = bench()

    async def run(
        self, number: int, concurrency: int, layout: Layout = "original", store: StubStore | None = None
    ) -> list[Row]:
        """Ask questions; return the journal's, whatever happened."""
        self.tally = Tally(number)
        with Journal(self.path, {}) as journal:
            self.bench = bench(self.stub.block_size, journal)
            async with client_of(self.stub.url, self.timeout_seconds) as client:
                breaker = Breaker()
                agent = agent_of(client, store, 2, layout, self.timeout_seconds, breaker)
                probe = partial(ask_canary, self.stub.url, "stub", self.canary_seconds)
                gate = EngineGate(probe, self.patience_seconds, breaker=breaker)
                driver = Driver(agent, self.bench.meter, gate)
                phase = Phase(arm="prefix-on", block=0, name="c1", segment=0, salt="salt")
                await driver.run(phase, questions(number), concurrency, tally=self.tally, advance=lambda: None)
        return read(self.path, "question")

    def check(self) -> Mapping[str, Any]:
        """Check that tally, journal and metrics agree, question by question, and return the tally."""
        counts = self.tally.as_dict()
        rows = read(self.path, "question")
        assert counts["scheduled"] == counts["sent"] + counts["dropped"]
        assert counts["sent"] == len(rows) == len({row["question_id"] for row in rows})
        outcomes = Counter(row["outcome"] for row in rows)
        assert outcomes == Counter(
            {"ok": counts["ok"], "failed": sum(counts["failed"].values()), "cancelled": counts["cancelled"]}
        )
        assert Counter(row["reason"] for row in rows if row["outcome"] == "failed") == Counter(counts["failed"])
        for outcome in ("ok", "failed", "cancelled"):
            reported = (
                self.bench.value("hop2rag_questions_total", outcome=outcome, termination=end)
                for end in ("done", "enough", "max_hops", "error")
            )
            assert sum(value or 0 for value in reported) == outcomes[outcome]
        assert all(row["duration_seconds"] >= 0 for row in rows)
        return counts


async def test_a_load_without_trouble(stub: StubVllm, tmp_path: Path) -> None:
    """Everything is sent, answered, scored, acknowledged, and its calls and visits are in the journal."""
    load = Load(stub, tmp_path)
    rows = await load.run(6, 3)
    assert load.check()["ok"] == 6
    assert {row["termination"] for row in rows} == {"max_hops"}
    assert {(row["answer_em"], row["attempt"], row["answer"]) for row in rows} == {(1.0, 1, None)}
    assert len(read(load.path, "llm_call")) == len(stub.requests) == 6 * 7
    assert len(read(load.path, "node_visit")) == 6 * 16
    assert Counter(row["stage"] for row in read(load.path, "stage")) == {"embed": 12, "search": 12, "rerank": 12}


async def test_row_06_a_killed_engine_that_comes_back(stub: StubVllm, tmp_path: Path) -> None:
    """In-flight questions fail with a reason, later sends wait for health, and the rest of the run is answered."""
    load = Load(stub, tmp_path, patience_seconds=20.0)
    stub.script = lambda _: Turn(seconds=0.02)
    run = asyncio.create_task(load.run(16, 4))
    await until(lambda: len(stub.requests) >= 20)
    stub.die()
    await until(lambda: load.tally.sent == load.tally.ok + load.tally.failed.total())
    sent_while_dead = load.tally.sent
    await asyncio.sleep(0.2)
    assert load.tally.sent == sent_while_dead
    stub.live()
    await run
    counts = load.check()
    assert counts["sent"] == 16
    assert 1 <= sum(counts["failed"].values()) <= 4
    assert set(counts["failed"]) <= {"connection", "stream_cut"}


async def test_row_06_a_killed_engine_that_stays_away(stub: StubVllm, tmp_path: Path) -> None:
    """The run ends with exit code 4 after the patience; every acknowledged question is in the journal."""
    load = Load(stub, tmp_path)
    stub.script = lambda _: Turn(seconds=0.02)
    run = asyncio.create_task(load.run(16, 4))
    await until(lambda: load.tally.ok >= 2)
    stub.die()
    with pytest.raises(DependencyDownError, match="canary") as raised:
        await run
    assert raised.value.exit_code == 4
    counts = load.check()
    assert counts["ok"] >= 2
    assert counts["dropped"] > 0


async def test_row_07_an_engine_that_hangs_while_its_health_is_fine(stub: StubVllm, tmp_path: Path) -> None:
    """A canary that times out shows it; each question costs one time-out, never 600 s."""
    load = Load(stub, tmp_path, timeout_seconds=0.3)
    stub.hangs = True
    with pytest.raises(DependencyDownError, match="did not answer a canary completion within 0\\.2 s"):
        await load.run(8, 2)
    async with httpx.AsyncClient() as http:
        assert (await http.get(f"{stub.url}/health")).status_code == 200
    counts = load.check()
    assert counts["failed"].keys() == {"timeout"}
    assert counts["dropped"] >= 6


async def test_row_09_a_prompt_that_is_too_long_is_not_tried_again(stub: StubVllm, tmp_path: Path) -> None:
    """The same prompt would be too long again; and it is the question's failure, so no canary is asked."""
    load = Load(stub, tmp_path)
    stub.script = by_node(generate=Turn(status=400, message=TOO_LONG))
    await load.run(3, 1)
    assert load.check()["failed"] == {"context_too_long": 3}
    assert Counter(node_of(body) for body in stub.requests)["generate"] == 3


@pytest.mark.parametrize("turn", [Turn(after=1, then="cut"), Turn(after=1, then="error"), Turn(then="no_usage")])
async def test_row_09_a_cut_stream_is_never_a_success(stub: StubVllm, tmp_path: Path, turn: Turn) -> None:
    """A few tokens of an answer would count as a fast success; the question fails, the load goes on."""
    load = Load(stub, tmp_path)
    stub.next_turns.extend([turn])
    rows = await load.run(2, 1)
    assert load.check()["failed"] == {"stream_cut": 1}
    assert [(row["outcome"], row["answer_em"]) for row in rows] == [("failed", None), ("ok", 1.0)]
    calls = read(load.path, "llm_call")
    assert [call["reason"] for call in calls if call["outcome"] == "failed"] == ["stream_cut"]


@pytest.mark.parametrize(
    "text",
    ["not json", '{"query": "half', "x" * 60_000, "\ud800\udfff \x00", "[" * 5000, '{"query": "DONE"}', ""],
    ids=["non-JSON", "half JSON", "huge", "lone surrogates", "deep", "DONE for ever", "empty"],
)
async def test_row_18_nonsense_ends_in_bounded_calls(stub: StubVllm, tmp_path: Path, text: str) -> None:
    """Whatever the model says, each question ends, within two calls a node visit, and is in the journal."""
    load = Load(stub, tmp_path)
    stub.script = lambda _: Turn(text, obeys=False)
    rows = await load.run(2, 2)
    assert load.check()["sent"] == 2
    assert {row["outcome"] for row in rows} == {"ok"}
    assert len(stub.requests) <= 2 * 2 * (2 * 3 + 1)
    repairs = sum(
        load.bench.value("hop2rag_json_repairs_total", node=node) or 0
        for node in ("decompose", "extract_clues", "decide")
    )
    assert len(stub.requests) == repairs + sum(row["node"] in LLM_NODES for row in read(load.path, "node_visit"))


async def test_a_broken_store_ends_the_run(stub: StubVllm, tmp_path: Path) -> None:
    """Every later question would fail as well; what was in flight is cancelled and says so."""
    load = Load(stub, tmp_path)
    with pytest.raises(DependencyDownError, match="Chroma"):
        await load.run(5, 2, store=StubStore(failure=DependencyDownError("Chroma is gone.")))
    counts = load.check()
    assert (counts["cancelled"], counts["dropped"]) == (counts["sent"], 5 - counts["sent"])


async def test_a_stopped_load_keeps_its_account(stub: StubVllm, tmp_path: Path) -> None:
    """Ctrl-C in the middle: what was in flight is cancelled, the rest is dropped, and the journal agrees."""
    load = Load(stub, tmp_path)
    stub.script = lambda _: Turn(seconds=0.05)
    run = asyncio.create_task(load.run(12, 3))
    await until(lambda: len(stub.requests) >= 12)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    counts = load.check()
    assert counts["cancelled"] >= 1
    assert counts["dropped"] >= 1


async def test_an_answer_counts_as_one_even_if_stopped_before_the_disk_was(
    stub: StubVllm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C between an answer and its acknowledgement must not be ok in the journal and cancelled in the tally."""
    load = Load(stub, tmp_path)
    reached = asyncio.Event()

    async def never(_: Journal) -> None:
        reached.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Journal, "acknowledge", never)
    run = asyncio.create_task(load.run(3, 1))
    await reached.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    counts = load.check()
    assert (counts["ok"], counts["cancelled"], counts["dropped"]) == (1, 0, 2)


@pytest.mark.parametrize("layout", ["original", "instructions-first", "append-only"])
@pytest.mark.parametrize("concurrency", [1, 4])
async def test_three_witnesses_of_one_run(stub: StubVllm, tmp_path: Path, layout: Layout, concurrency: int) -> None:
    """Counters, responses and the bound agree to the token, from the wire through the journal to the verdict.

    Above concurrency 1 calls may arrive in another order than they were sent in: then one call hits what another
    misses, the sums stay, and the cause is reported.
    """
    load = Load(stub, tmp_path)
    await load.run(8, concurrency, layout)
    window = measured(hits=stub.counts["hits"], queries=stub.counts["queries"])
    found = hit_rates(read_run(load.path, [window]), "prefix-on")
    assert found["agree_to_the_token"] is True
    assert found["calls"] == 8 * 7
    assert 0 < found["bound"]["hit_rate"] < 1
    if concurrency == 1:
        assert found["calls_equal_to_bound"] == found["calls"], found["differences"]
    else:
        assert abs(found["bound"]["hit_rate"] - found["responses"]["hit_rate"]) < 0.001
        assert {difference["cause"].partition(":")[0] for difference in found["differences"]} <= {"arrival order"}

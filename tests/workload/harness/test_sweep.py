"""The sweep: controlled lengths, nothing cached, replies of one length, every call accounted for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.stubs.agent import bench, client_of
from tests.stubs.vllm import TOO_LONG, StubVllm, Turn
from workload.agent.llm import Llm
from workload.engine.facts import EngineFacts
from workload.engine.launcher import RunningEngine
from workload.harness.driver import Phase
from workload.harness.loops import Tally
from workload.harness.sweep import GENERATED_TOKENS, calibrate, prompt, sweep
from workload.record.journal import Journal, read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workload.harness.system_under_test import SystemUnderTest

TEXTS = ["The Tin Choir was founded in 1903 near the river.", "Mara Vell lived in the Glass Harbour until 1950."]
PHASE = Phase(arm="sweep", block=0, name="sweep", segment=0, salt="salt")
FACTS = EngineFacts(
    version="0.32.0",
    model="stub",
    model_path=None,
    max_model_len=8192,
    block_size=16,
    num_gpu_blocks=100,
    prefix_caching=True,
    kv_pool_bytes=None,
    kv_block_bytes=None,
)


class Gate:
    """Remembers the reasons that it was asked about."""

    def __init__(self) -> None:
        self.reasons: list[str | None] = []

    async def check(self, reason: str | None) -> None:
        """Let everything pass."""
        self.reasons.append(reason)


class Parts:
    """What the sweep needs of a system under test and an engine."""

    def __init__(self, **parts: Any) -> None:
        self.__dict__ |= parts


@pytest.fixture
def stub() -> Iterator[StubVllm]:
    """Run a stub server."""
    with StubVllm() as server:
        yield server


def engine_of(stub: StubVllm) -> RunningEngine:
    """Return the stub as a running engine."""
    return RunningEngine(stub.url, FACTS, None, None)


async def swept(
    stub: StubVllm, folder: Path, contexts: tuple[int, ...], phase: Phase = PHASE, done: frozenset[str] = frozenset()
) -> tuple[Tally, Gate, Path]:
    """Run a sweep; return its account, its gate and its journal."""
    tally, gate, path = Tally(len(contexts)), Gate(), folder / "journal.sqlite"
    with Journal(path, {}) as journal:
        meter = bench(16, journal).meter
        async with client_of(stub.url) as client:
            parts = Parts(llm=Llm(client, "stub"), meter=meter, driver=Parts(gate=gate))
            await sweep(
                cast("SystemUnderTest", parts),
                engine_of(stub),
                phase,
                contexts,
                TEXTS,
                tally=tally,
                advance=lambda: None,
                done=done,
            )
    return tally, gate, path


async def test_prompts_have_about_the_tokens_asked_for(stub: StubVllm, tmp_path: Path) -> None:
    """Lengths by characters over four would be off by a third; the server's own tokenizer sets the scale."""
    await swept(stub, tmp_path, (200, 800, 400))
    rows = read(tmp_path / "journal.sqlite", "llm_call")
    frame = len(prompt(TEXTS, 0)[0]["content"].split()) + 10
    for row, aimed in zip(rows, (200, 800, 400), strict=True):
        assert row["prompt_tokens"] - frame == pytest.approx(aimed, rel=0.1)


async def test_nothing_is_cached_and_no_call_shares_a_salt(stub: StubVllm, tmp_path: Path) -> None:
    """The second round sends the same prompts; a cache would answer it, and length would cost nothing."""
    await swept(stub, tmp_path, (200, 400, 400, 200))
    assert [row["cached_tokens"] for row in read(tmp_path / "journal.sqlite", "llm_call")] == [0, 0, 0, 0]
    assert len({request["cache_salt"] for request in stub.requests}) == 4


async def test_every_reply_has_one_length(stub: StubVllm, tmp_path: Path) -> None:
    """A model that stops after two tokens gives no time per token."""
    await swept(stub, tmp_path, (200,))
    (request,) = stub.requests
    assert request["ignore_eos"] is True
    assert request["max_tokens"] == GENERATED_TOKENS
    assert "response_format" not in request


async def test_a_refused_length_is_counted_and_the_sweep_goes_on(stub: StubVllm, tmp_path: Path) -> None:
    """The context limit is one of the walls; it must be met, named, and not end the run."""
    stub.next_turns.extend([Turn(), Turn(status=400, message=TOO_LONG), Turn()])
    tally, gate, path = await swept(stub, tmp_path, (200, 9000, 200))
    assert tally.as_dict()["failed"] == {"context_too_long": 1}
    assert tally.ok == 2
    assert gate.reasons == [None, "context_too_long", None]
    questions = read(path, "question")
    assert [row["outcome"] for row in questions] == ["ok", "failed", "ok"]
    assert [row["question_id"] for row in questions] == ["sweep-0-200", "sweep-1-9000", "sweep-2-200"]


async def test_a_sweep_that_goes_on_makes_the_calls_that_are_left(stub: StubVllm, tmp_path: Path) -> None:
    """A length that is measured again weighs twice in the fit; the call that was cut short is a second attempt."""
    phase = Phase(arm="sweep", block=0, name="sweep", segment=1, salt="salt", sent_before={"sweep-1-400": 1})
    await swept(stub, tmp_path, (200, 400, 800), phase, frozenset({"sweep-0-200"}))
    rows = read(tmp_path / "journal.sqlite", "question")
    assert [(row["question_id"], row["attempt"]) for row in rows] == [("sweep-1-400", 2), ("sweep-2-800", 1)]


def test_the_scale_is_the_servers_own(stub: StubVllm) -> None:
    """Characters a token depend on the tokenizer and on the text."""
    assert calibrate(engine_of(stub), "four words are here") == pytest.approx(19 / 4)
    assert json.loads(json.dumps(prompt(TEXTS, 10)))[0]["content"].startswith("Passages:\nThe Tin Ch\n\n")

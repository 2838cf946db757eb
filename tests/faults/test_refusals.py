"""Row 8: a server that refuses for load is asked again, later each time, and left alone when it refuses everybody."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stubs.agent import bench, client_of
from tests.stubs.vllm import StubVllm, Turn
from tests.workload.harness.test_driver import Load
from workload.agent.backoff import MAX_REFUSALS, Backoff, Breaker, retry_after_seconds
from workload.agent.llm import Llm, LlmError
from workload.errors import DependencyDownError
from workload.harness import health_gate as gate_module
from workload.record.journal import read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workload.agent.metering import QuestionMeter
    from workload.engine.message import Message

ASKED: list[Message] = [{"role": "user", "content": "Who founded the Tin Choir?"}]
NOW = datetime(2025, 1, 31, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubVllm]:
    """Return a stub server; the gate asks its canaries in quick succession."""
    monkeypatch.setattr(gate_module, "RETRY_SECONDS", 0.05)
    with StubVllm() as server:
        yield server


@dataclass
class Waits:
    """Takes the place of sleeping."""

    seconds: list[float] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        """Note a wait, and let others run."""
        self.seconds.append(seconds)
        await asyncio.sleep(0)


async def ask(stub: StubVllm, question: QuestionMeter, waits: Waits) -> str:
    """Make one call; waits are noted and take no time."""
    async with client_of(stub.url) as client:
        llm = Llm(client, "stub", timeout_seconds=5.0, backoff=Backoff(sleep=waits.sleep))
        return await llm.complete(question, "generate", 1, ASKED, 32)


STORMS = [
    ({}, [(0.25, 0.5), (0.5, 1), (1, 2), (2, 4)]),
    ({"Retry-After": "0"}, [(0.25, 0.5), (0.5, 1), (1, 2), (2, 4)]),
    ({"Retry-After": "3"}, [(3, 3.25), (3, 3.5), (3, 4), (3, 5)]),
    ({"Retry-After": "soon"}, [(0.25, 0.5), (0.5, 1), (1, 2), (2, 4)]),
    ({"Retry-After": "31"}, []),
]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("headers", "waits"), STORMS, ids=["none", "0", "3", "soon", "31"])
async def test_row_08_a_storm_is_met_with_few_calls_and_growing_waits(
    stub: StubVllm, status: int, headers: dict[str, str], waits: list[tuple[float, float]]
) -> None:
    """Retry-After is never undercut; a call ends after four retries, each counted apart in metric and journal."""
    stub.script = lambda _: Turn(status=status, headers=headers)
    measured, waited = bench(), Waits()
    question = measured.meter.question("0", "bridge")
    with pytest.raises(LlmError, match="overloaded"):
        await ask(stub, question, waited)
    assert len(waited.seconds) == len(waits)
    assert all(low <= seconds <= high for seconds, (low, high) in zip(waited.seconds, waits, strict=True))
    assert len(stub.requests) == len(waits) + 1
    assert [(call["retry"], call["reason"]) for call in question.calls] == [
        (retry, "overloaded") for retry in range(len(waits) + 1)
    ]
    assert measured.value("hop2rag_llm_retries_total", node="generate") == len(waits)
    assert measured.value("hop2rag_llm_errors_total", node="generate", reason="overloaded") == len(waits) + 1


async def test_row_08_a_short_storm_costs_time_and_no_question(stub: StubVllm, tmp_path: Path) -> None:
    """Refused twice, then answered: the question is ok, and the journal shows which calls were sent again."""
    stub.next_turns.extend([Turn(status=429), Turn(status=503)])
    load = Load(stub, tmp_path)
    await load.run(1, 1)
    assert load.check()["ok"] == 1
    calls = read(load.path, "llm_call")
    assert [(call["outcome"], call["reason"], call["retry"]) for call in calls[:3]] == [
        ("failed", "overloaded", 0),
        ("failed", "overloaded", 1),
        ("ok", None, 2),
    ]
    assert {call["retry"] for call in calls[3:]} == {0}


async def test_row_08_other_failures_are_not_sent_again(stub: StubVllm) -> None:
    """A request that made the server fail would make it fail again; only refusals promise a better time."""
    stub.next_turns.append(Turn(status=500))
    waited = Waits()
    with pytest.raises(LlmError, match="server_error"):
        await ask(stub, bench().meter.question("0", "bridge"), waited)
    assert (waited.seconds, len(stub.requests)) == ([], 1)


async def test_row_08_ten_refusals_in_a_row_stop_everybody(stub: StubVllm, tmp_path: Path) -> None:
    """The breaker opens, no question is sent while canaries are refused too, and the run ends with exit code 4."""
    stub.script = lambda _: Turn(status=503)
    stub.canary_status = 503
    load = Load(stub, tmp_path, patience_seconds=0.5, canary_seconds=5.0)
    with pytest.raises(DependencyDownError, match="canary completion with 503") as raised:
        await load.run(30, 4)
    assert raised.value.exit_code == 4
    counts = load.check()
    assert MAX_REFUSALS <= len(stub.requests) < MAX_REFUSALS + 4  # what was under way when the tenth came back
    assert counts["failed"].keys() <= {"overloaded"}
    assert counts["sent"] <= 8
    assert counts["dropped"] == 30 - counts["sent"]


async def test_row_08_a_storm_that_canaries_do_not_see_is_bounded(stub: StubVllm, tmp_path: Path) -> None:
    """A proxy may refuse chats and let canaries through: after ten refusals a question costs one call, not five."""
    stub.script = lambda _: Turn(status=429)
    load = Load(stub, tmp_path)
    await load.run(20, 1)
    assert load.check()["failed"] == {"overloaded": 20}
    assert len(stub.requests) <= MAX_REFUSALS + 20


async def test_row_08_the_breaker_closes_when_the_storm_is_over(stub: StubVllm, tmp_path: Path) -> None:
    """After the storm every question that was not caught in it is answered."""
    stub.next_turns.extend([Turn(status=503)] * 14)
    load = Load(stub, tmp_path)
    await load.run(24, 4)
    counts = load.check()
    assert Counter(counts["failed"]).total() <= 8
    assert counts["ok"] == 24 - Counter(counts["failed"]).total() >= 16


def test_row_08_an_answer_forgets_the_refusals_before_it() -> None:
    """Ten refusals in a day are no storm; and after a canary one refusal is enough to stop again."""
    breaker = Breaker()
    for _ in range(MAX_REFUSALS - 1):
        breaker.refused()
    breaker.answered()
    for _ in range(MAX_REFUSALS - 1):
        breaker.refused()
    assert not breaker.is_open
    breaker.refused()
    assert breaker.is_open
    breaker.half_open()
    assert not breaker.is_open
    breaker.refused()
    assert breaker.is_open


@settings(max_examples=500)
@given(st.integers(1, 5), st.none() | st.floats(0, 1e9), st.integers())
def test_row_08_no_wait_is_without_end(retry: int, retry_after: float | None, seed: int) -> None:
    """Every wait is within its bounds, whatever a server asks for and however the dice fall."""
    seconds = Backoff(random=Random(seed)).seconds(retry, retry_after)
    assert (seconds is None) == (retry > 4 or (retry_after or 0) > 30)
    if seconds is not None:
        assert max(0.25, retry_after or 0) <= seconds <= 45


def test_row_08_workers_refused_together_come_back_apart() -> None:
    """Without jitter sixty-four workers would return as one, and be refused as one."""
    backoff = Backoff()
    assert len({backoff.seconds(2, 5.0) for _ in range(64)}) > 60


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        ("Fri, 31 Jan 2025 12:00:07 GMT", 7.0),
        ("Fri, 31 Jan 2025 11:00:00 GMT", 0.0),
        ("Fri, 31 Jan 2025 12:00:07 -0000", None),
        ("-1", None),
        ("1.5", None),
        ("9" * 5000, None),
        ("", None),
        (None, None),
    ],
)
def test_row_08_retry_after_is_read_as_written(text: str | None, seconds: float | None) -> None:
    """The header is a number of seconds or a date (RFC 9110, 10.2.3); anything else is no wish."""
    assert retry_after_seconds(text, NOW) == seconds


@settings(max_examples=500)
@given(st.text(max_size=40) | st.from_regex(r"[A-Z][a-z]{2}, \d{1,9} [A-Z][a-z]{2} \d{1,5} \d+:\d+:\d+ \S{1,6}"))
def test_row_08_no_header_breaks_the_client(text: str) -> None:
    """The header comes from a server that is in trouble already."""
    seconds = retry_after_seconds(text, NOW)
    assert seconds is None or 0 <= seconds < float("inf")

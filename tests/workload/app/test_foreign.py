"""An app that is not ours on the stub engine: its calls, visits and retrievals are in the journal, to the token."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypedDict

import httpx
import pytest
from langgraph.graph import START, StateGraph

from tests.stubs.agent import bench
from tests.stubs.vllm import StubVllm, Turn
from workload.app.foreign import ForeignApp, answer_of, foreign_app
from workload.engine.endpoint import open_client
from workload.engine.facts import read_facts
from workload.engine.launcher import RunningEngine
from workload.errors import UsageError
from workload.record.journal import Journal, read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.stubs.agent import Bench

QUESTION = {"question": "Where was the composer of the opera born?"}
RAG = "workload.examples.corrective_rag:app"


class State(TypedDict, total=False):
    """The state of the small graphs."""

    question: str
    answer: str


@contextmanager
def under_test(vllm: StubVllm, found: Bench, name: str = RAG, graph: Any = None) -> Iterator[ForeignApp]:
    """Aim the app at the stub; `graph` replaces what the name loads."""
    with open_client(vllm.url) as client:
        engine = RunningEngine(vllm.url, read_facts(client), None, None)
    with foreign_app(name, {}, engine, found.meter.reuse, None) as app:
        app.app = graph or app.app
        yield app


async def ask(app: ForeignApp, found: Bench, given: dict[str, Any] | None = None, salt: str = "s") -> Any:
    """Ask once, as the driver does."""
    meter = found.meter.question("0", "bridge", salt)
    place = {"arm": "a", "block": 0, "phase": "c1", "segment": 0, "question_id": "q1", "attempt": 1}
    meter.open(place)
    answer = await app.answer(QUESTION if given is None else given, meter)
    meter.close("failed" if answer.reason else "ok", answer.termination, answer.hops, {"reason": answer.reason})
    return answer


def one_node(node: Any) -> Any:
    """Return a graph of one node."""
    graph = StateGraph(State)
    graph.add_node("only", node)
    graph.add_edge(START, "only")
    return graph.compile()


async def test_the_journal_has_what_the_engine_counted(tmp_path: Path) -> None:
    """Tokens and hits of each call by its node and hop; the bound of the prompts is what the stub's cache served."""
    path = tmp_path / "journal.sqlite"
    with StubVllm() as vllm, Journal(path, {}) as journal:
        found = bench(journal=journal)
        with under_test(vllm, found) as app:
            answers = [await ask(app, found) for _ in range(2)]
        counts, bodies = vllm.counts, vllm.requests
    calls = list(read(path, "llm_call"))
    assert [answer.reason for answer in answers] == [None, None]
    assert answers[0].answer == "Nobody knows."
    assert answers[0].hops == 2
    nodes = [(row["node"], row["hop"]) for row in calls[:4]]
    assert nodes == [("grade", 1), ("rewrite", 1), ("grade", 2), ("generate", 1)]
    assert sum(row["prompt_tokens"] for row in calls) == counts["prompt"]
    assert sum(row["completion_tokens"] for row in calls) == counts["generation"]
    assert sum(row["cached_tokens"] for row in calls) == counts["hits"] > 0
    assert all(row["reusable_tokens"] == row["cached_tokens"] for row in calls)
    assert all(row["ttft_seconds"] is not None for row in calls)
    assert {body["cache_salt"] for body in bodies} == {"s"}
    visits = [row["node"] for row in read(path, "node_visit")]
    assert visits[:6] == ["retrieve", "grade", "rewrite", "retrieve", "grade", "generate"]
    assert [row["stage"] for row in read(path, "stage")] == ["search"] * 4


async def test_a_failure_of_the_app_is_an_outcome_with_its_reason() -> None:
    """What the engine refused has the reason of our own calls; what the app raises has its class."""
    with StubVllm() as vllm:
        found = bench()
        with under_test(vllm, found) as app:
            assert (await ask(app, found, {"other": 1})).reason == "KeyError"
            vllm.next_turns.append(Turn(status=503))
            assert (await ask(app, found)).reason == "overloaded"
            assert (await ask(app, found)).reason is None


async def test_an_app_that_calls_somewhere_else_is_refused() -> None:
    """Its figures would lack every call."""
    with StubVllm() as vllm:
        found = bench()
        elsewhere = one_node(lambda _: {"answer": "42"})
        refused = pytest.raises(UsageError, match="no call came through the tap")
        with under_test(vllm, found, graph=elsewhere) as app, refused:
            await ask(app, found)


async def test_calls_that_no_callback_reports_are_named(caplog: pytest.LogCaptureFixture) -> None:
    """A raw client hides its calls from LangChain; the engine counts them all the same."""

    def call(_: State) -> State:
        body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
        httpx.post(f"{app.home.tap.url}/v1/chat/completions", json=body, trust_env=False)
        return {"answer": "hidden"}

    with StubVllm() as vllm:
        found = bench()
        with caplog.at_level(logging.WARNING), under_test(vllm, found, graph=one_node(call)) as app:
            assert (await ask(app, found)).answer == "hidden"
    assert "1 calls came through the tap that no callback" in caplog.text


async def test_a_node_that_blocks_the_loop_is_named(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop is the app's own, so nobody else waits; but its other questions do."""
    monkeypatch.setattr("workload.app.home.BLOCKED_SECONDS", -1.0)

    async def block(_: State) -> State:
        app.calls.seen += 1
        return {"answer": "late"}

    with StubVllm() as vllm:
        found = bench()
        with caplog.at_level(logging.WARNING), under_test(vllm, found, graph=one_node(block)) as app:
            app.home._warned.clear()
            await ask(app, found)
    assert "node 'only' blocked its event loop" in caplog.text


@pytest.mark.parametrize(
    ("result", "answer"), [("a", "a"), ({"answer": "b"}, "b"), ({"messages": []}, ""), ({}, ""), (None, ""), (3, "")]
)
def test_the_answer_is_where_apps_have_it(result: Any, answer: str) -> None:
    """An app that has it elsewhere is measured, but not scored."""
    assert answer_of(result) == answer

"""The memory of the callback handler is bounded, even if an app does not report every end."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from langchain_core.outputs import LLMResult

from exporter.agent import runs
from exporter.langgraph import MeteringHandler
from exporter.langgraph.instruments import MAX_NODES, MAX_WARNINGS
from exporter.web.pages import encode_text

if TYPE_CHECKING:
    from tests.exporter.conftest import FakeTime


@pytest.fixture
def handler(fake_time: FakeTime, monkeypatch: pytest.MonkeyPatch) -> MeteringHandler:
    """Return a handler on a clock that stands still, with room for few runs."""
    monkeypatch.setattr(runs, "MAX_OPEN", 20)
    return MeteringHandler(["a", "b"], clock=fake_time.monotonic)


def value(handler: MeteringHandler, name: str, **labels: str) -> float | None:
    """Return a sample's value, None when there is none."""
    return handler.registry.get_sample_value(name, labels)


def ask(handler: MeteringHandler) -> UUID:
    """Begin a question."""
    run_id = uuid4()
    handler.on_chain_start({}, {}, run_id=run_id)
    return run_id


def visit(handler: MeteringHandler, question: UUID, node: str = "a") -> UUID:
    """Begin a node's visit in a question."""
    run_id = uuid4()
    metadata: dict[str, Any] = {"langgraph_node": node, "langgraph_step": 1}
    handler.on_chain_start({}, {}, run_id=run_id, parent_run_id=question, tags=["graph:step:1"], metadata=metadata)
    return run_id


def forgotten(handler: MeteringHandler) -> float | None:
    """Return how many questions and runs were closed without a report of their end."""
    return value(handler, "hop2rag_metering_failures_total")


def test_row_25_runs_whose_end_is_never_reported_do_not_pile_up(
    handler: MeteringHandler, caplog: pytest.LogCaptureFixture
) -> None:
    """A killed worker reports no end: after a week of them, an app would run out of memory."""
    for _ in range(1000):
        visit(handler, ask(handler))
    assert len(handler._runs) <= 20
    assert value(handler, "hop2rag_node_active", node="a") == 10
    assert value(handler, "hop2rag_questions_total", outcome="cancelled", termination="error") == 990
    assert forgotten(handler) == 990
    assert len(caplog.records) == 1


@pytest.mark.parametrize("event", ["on_chain_start", "on_llm_start", "on_chat_model_start"])
def test_runs_of_parents_that_were_never_seen_do_not_pile_up(handler: MeteringHandler, event: str) -> None:
    """Callbacks that were attached in the middle see children only."""
    for _ in range(1000):
        getattr(handler, event)({}, [], run_id=uuid4(), parent_run_id=uuid4())
    assert len(handler._runs) <= 20
    assert len(handler._runs._trees) <= 20
    assert forgotten(handler) == 980


def test_runs_without_an_end_in_one_question_do_not_pile_up(handler: MeteringHandler) -> None:
    """A question that runs for days may lose the ends of its parts; itself it goes on."""
    question = ask(handler)
    for _ in range(1000):
        visit(handler, question)
    assert len(handler._runs) <= 20
    assert value(handler, "hop2rag_node_active", node="a") == 19
    handler.on_chain_end({}, run_id=question)
    assert value(handler, "hop2rag_questions_total", outcome="ok", termination="done") == 1
    assert len(handler._runs) == 0
    assert value(handler, "hop2rag_node_active", node="a") == 0


def test_a_question_in_which_nothing_begins_for_an_hour_is_closed(
    handler: MeteringHandler, fake_time: FakeTime
) -> None:
    """A few of them never reach the bound on their number, but each would occupy a worker slot."""
    idle, busy = ask(handler), ask(handler)
    fake_time.now += runs.IDLE_SECONDS - 1
    visit(handler, busy)
    fake_time.now += 2
    fresh = ask(handler)
    assert value(handler, "hop2rag_questions_total", outcome="cancelled", termination="error") == 1
    assert forgotten(handler) == 1
    for question in (idle, busy, fresh):  # a late report of an end changes nothing
        handler.on_chain_end({}, run_id=question)
    assert value(handler, "hop2rag_questions_total", outcome="ok", termination="done") == 2
    assert len(handler._runs) == 0


def test_questions_that_end_are_no_failures(handler: MeteringHandler, fake_time: FakeTime) -> None:
    """An app that reports every end must not reach a bound, however long it runs."""
    for _ in range(1000):
        question = ask(handler)
        handler.on_chain_end({}, run_id=visit(handler, question))
        handler.on_chain_end({}, run_id=question)
        fake_time.now += 60
    assert forgotten(handler) == 0
    assert len(handler._runs._trees) == 0
    assert value(handler, "hop2rag_questions_total", outcome="ok", termination="done") == 1000


def test_an_app_of_many_nodes_has_bounded_series(caplog: pytest.LogCaptureFixture) -> None:
    """500 nodes had 84,701 series: more than the rest of a host, from one process."""
    small, large = (MeteringHandler([f"n{number}" for number in range(count)]) for count in (MAX_NODES, 500))
    assert encode_text(large.registry).count(b"\n") == encode_text(small.registry).count(b"\n")
    assert [record.message for record in caplog.records] == [
        "Of 500 nodes the first 32 have series of their own; the others share one."
    ]
    question = ask(large)
    for number in range(500):
        large.on_chain_end({}, run_id=visit(large, question, f"n{number}"))
    assert value(large, "hop2rag_node_duration_seconds_count", node="other") == 500 - MAX_NODES


def test_names_beyond_the_limit_are_named_once_each_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A reader of `other` must be able to find out which; a graph that makes up names must not fill the log."""
    handler = MeteringHandler()
    question = ask(handler)
    for number in [*range(10 * MAX_NODES), 5, MAX_NODES]:
        handler.on_chain_end({}, run_id=visit(handler, question, f"n{number}"))
    assert value(handler, "hop2rag_node_duration_seconds_count", node="n5") == 2
    assert value(handler, "hop2rag_node_duration_seconds_count", node="other") == 9 * MAX_NODES + 1
    assert (
        caplog.records[0].message
        == "Node 'n32' counts as `other`: only the first 32 plain names have series of their own."
    )
    assert len(caplog.records) == MAX_WARNINGS


def test_replies_do_not_pile_up(handler: MeteringHandler) -> None:
    """A week of calls must not stay in memory; those without an end are bounded like all runs."""
    for number in range(100):
        run_id = uuid4()
        handler.on_chat_model_start({}, [], run_id=run_id)
        if number % 2:
            handler.on_llm_end(LLMResult(generations=[]), run_id=run_id)
    assert len(handler._runs) <= 20
    gc.collect()
    assert len(handler._replies) == 50

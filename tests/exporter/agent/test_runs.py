"""Runs that callbacks report: questions one after the other, inside one another, and cut short."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from exporter.agent import runs
from exporter.agent.busy import BusySeconds
from exporter.agent.instruments import AgentMetrics
from exporter.agent.recorder import CANCELLED, Recorder
from exporter.agent.runs import Runs
from exporter.agent.spans import AgentTracer
from exporter.agent.usage import Usage
from exporter.timeline import NodeActivity

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from tests.exporter.conftest import FakeTime


class App:
    """An app of one node that calls a model, as a callback handler sees it."""

    def __init__(self, clock: FakeTime) -> None:
        self.registry = CollectorRegistry()
        self.exported = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exported))
        self.activity = NodeActivity(lambda: 0)
        self.busy = BusySeconds(clock.monotonic)
        recorder = Recorder(
            metrics=AgentMetrics(self.registry, ["speak"], ["speak"]),
            activity=self.activity,
            busy=self.busy,
            clock=clock.monotonic,
            tracer=AgentTracer(provider.get_tracer("test"), "app"),
        )
        self.runs = Runs(recorder)
        self._clock = clock

    def ask(self, parent: UUID | None = None) -> UUID:
        """Open a question."""
        run_id = uuid4()
        self.runs.ask(self.runs.open(run_id, parent, ""))
        return run_id

    def visit(self, question: UUID, step: int = 1) -> UUID:
        """Open a visit of the node."""
        run_id = uuid4()
        self.runs.visit(self.runs.open(run_id, question, "speak"), step)
        return run_id

    def call(self, visit: UUID, seconds: float = 2.0) -> UUID:
        """Open a call of the model, which then takes some seconds."""
        run_id = uuid4()
        self.runs.call(self.runs.open(run_id, visit, "speak"), "model")
        self._clock.now += seconds
        return run_id

    def answer(self, question: UUID, steps: int = 1) -> None:
        """Answer a question in some steps, each of one call."""
        for step in range(steps):
            visit = self.visit(question, step)
            call = self.call(visit)
            found = self.runs.call_of(call)
            assert found
            found.usage = Usage(10, 3, 4)
            for run_id in (call, visit):
                self.runs.close(run_id)
        self.runs.close(question)

    def value(self, name: str, **labels: str) -> float | None:
        """Return a sample's value, None when there is none."""
        return self.registry.get_sample_value(name, labels)

    def questions(self, outcome: str) -> float | None:
        """Return how many questions ended that way."""
        return self.value(
            "hop2rag_questions_total", outcome=outcome, termination="done" if outcome == "ok" else "error"
        )

    def roots(self) -> list[ReadableSpan]:
        """Return the spans of questions."""
        return [span for span in self.exported.get_finished_spans() if span.name == "invoke_agent app"]


@pytest.fixture
def app(fake_time: FakeTime) -> App:
    """Return an app on a clock that moves only in calls."""
    return App(fake_time)


def test_two_questions_of_one_thread_are_two_traces(app: App) -> None:
    """A synchronous app answers them in one context: what the first left current there would become a parent."""
    for _ in range(2):
        app.answer(app.ask())
    assert [span.parent for span in app.roots()] == [None, None]
    assert len({span.context.trace_id for span in app.exported.get_finished_spans()}) == 2
    assert not trace.get_current_span().get_span_context().is_valid
    assert app.questions("ok") == 2
    assert app.value("hop2rag_question_duration_seconds_sum") == 4.0
    assert app.value("hop2rag_hops_sum", type="other") == 2
    assert app.busy.seconds()["generation_only"] == 4.0


def test_questions_at_the_same_time_have_workers_of_their_own(app: App) -> None:
    """On the timeline two workers in one node are two rows; a free row is used again, so rows do not pile up."""
    first, second = app.ask(), app.ask()
    visits = [app.visit(question) for question in (first, second)]
    rows = [line for line in app.activity.expose().decode().splitlines() if "worker=" in line]
    assert {row.split('"')[1] for row in rows} == {"0", "1"}
    for run_id in (*reversed(visits), second, first):
        app.runs.close(run_id)
    third = app.runs.open(uuid4(), None, "")
    app.runs.ask(third)
    assert third.tree.worker == 0


def test_hops_are_the_visits_of_the_node_that_ran_most_often(app: App) -> None:
    """Context growth is read by hop; visits in one step of the graph run side by side, and are one hop."""
    question = app.ask()
    for visit in reversed([app.visit(question), app.visit(question)]):
        app.runs.close(visit)
    app.answer(question, steps=3)
    assert app.value("hop2rag_hops_sum", type="other") == 3
    assert app.value("hop2rag_prompt_tokens_total", node="speak", hop="3") == 10
    assert app.value("hop2rag_cached_prompt_tokens_total", node="speak", hop="3") == 4


def test_runs_inside_a_visit_lie_in_its_question(app: App) -> None:
    """A subgraph, a tool or a chain leads to the call; its span and its hop are those of the visit around it."""
    question = app.ask()
    visit = app.visit(question)
    chain = uuid4()
    app.runs.open(chain, visit, "speak")
    inner = app.call(chain)
    for run_id in (inner, chain, visit, question):
        app.runs.close(run_id)
    spans = {span.name: span for span in app.exported.get_finished_spans()}
    assert spans["chat"].parent == spans["speak"].context
    assert spans["speak"].parent == spans["invoke_agent app"].context
    assert (spans["chat"].attributes or {})["hop2rag.hop"] == 1
    assert len(app.runs) == 0


def test_a_question_that_is_cut_short_closes_what_is_open_in_it(app: App) -> None:
    """A cancelled task reports no end of its parts; a gauge that is left up would stay up forever."""
    question = app.ask()
    app.call(app.visit(question))
    app.runs.close(question, CANCELLED)
    assert app.questions("cancelled") == 1
    assert app.value("hop2rag_node_active", node="speak") == 0
    assert app.value("hop2rag_node_failures_total", node="speak") == 1
    assert app.value("hop2rag_llm_errors_total", node="speak", reason="cancelled") == 1
    assert app.value("hop2rag_question_duration_seconds_count") == 0
    assert {(span.attributes or {})["error.type"] for span in app.exported.get_finished_spans()} == {"cancelled"}
    assert not trace.get_current_span().get_span_context().is_valid
    assert len(app.runs) == 0


def test_a_question_after_one_that_failed_is_counted_alone(app: App) -> None:
    """Failures must not leak into what follows: neither busy time nor a worker."""
    question = app.ask()
    call = app.call(app.visit(question))
    app.runs.close(call, "timeout")
    app.runs.close(question, "ValueError")
    app.answer(app.ask())
    assert (app.questions("failed"), app.questions("ok")) == (1, 1)
    assert app.value("hop2rag_llm_errors_total", node="speak", reason="timeout") == 1
    assert app.value("hop2rag_llm_call_duration_seconds_sum", node="speak") == 2.0
    assert app.busy.seconds() == {"retrieval_only": 0, "generation_only": 4.0, "both": 0, "neither": 0}


def test_the_end_of_an_unknown_run_changes_nothing(app: App) -> None:
    """Callbacks that are attached late see ends without beginnings."""
    app.runs.close(uuid4())
    assert app.runs.call_of(uuid4()) is None
    assert app.questions("ok") == 0


def test_a_call_that_outlives_its_question_counts(app: App) -> None:
    """Work in the background is not cancelled because the answer is there; what it starts belongs to the question."""
    question = app.ask()
    visit = app.visit(question)
    call = app.call(visit)
    app.runs.close(visit)
    late = app.call(visit)
    app.runs.close(question)
    background = uuid4()
    app.runs.ask(app.runs.open(background, visit))
    for run_id in (call, late, background):
        app.runs.close(run_id)
    assert app.questions("ok") == 1
    assert app.value("hop2rag_llm_call_duration_seconds_count", node="speak") == 2
    assert app.value("hop2rag_llm_errors_total", node="speak", reason="cancelled") == 0
    assert len({span.context.trace_id for span in app.exported.get_finished_spans()}) == 1
    assert len(app.runs) == 0


def test_the_tokens_of_a_cancelled_call_that_ends_after_all_count(app: App) -> None:
    """A thread cannot be cancelled: the engine computes the reply of a question that nobody waits for."""
    question = app.ask()
    call = app.call(app.visit(question))
    app.runs.close(question, CANCELLED)
    late = app.runs.cancelled_call_of(call)
    assert late
    late.count(Usage(10, 3))
    assert app.value("hop2rag_prompt_tokens_total", node="speak", hop="1") == 10
    assert app.value("hop2rag_llm_errors_total", node="speak", reason="cancelled") == 1


def test_closed_runs_are_forgotten(app: App, fake_time: FakeTime, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are kept for what they leave in the background, by number and by age."""
    monkeypatch.setattr(runs, "MAX_CLOSED", 10)
    for _ in range(100):
        app.answer(app.ask())
    assert len(app.runs._closed) == 10
    fake_time.now += runs.CLOSED_SECONDS + 1
    question = app.ask()
    app.runs.close(question)
    assert len(app.runs._closed) == 1


def test_the_time_of_a_person_is_not_the_questions(app: App, fake_time: FakeTime) -> None:
    """A question that waits over night took as long as its parts, and is one."""
    for is_resumed in (False, True):
        question = uuid4()
        app.runs.ask(app.runs.open(question, None, thread="thread"))
        if is_resumed:
            app.runs.resume(question)
        visit = app.visit(question)
        app.runs.close(app.call(visit))
        if is_resumed:
            app.runs.close(visit)
        else:
            app.runs.suspend(visit)
            app.runs.abandon(visit)
        app.runs.close(question)
        assert app.value("hop2rag_node_active", node="speak") == 0
        fake_time.now += 3600
    assert app.questions("ok") == 1
    assert app.value("hop2rag_question_duration_seconds_sum") == 4.0
    assert app.value("hop2rag_node_duration_seconds_count", node="speak") == 1
    assert app.value("hop2rag_node_failures_total", node="speak") == 0
    assert app.value("hop2rag_hops_sum", type="other") == 1
    assert [span.name for span in app.exported.get_finished_spans()].count("invoke_agent app") == 1


def test_a_new_question_in_a_thread_that_waits_is_another_one(app: App) -> None:
    """A person who asks something else instead of answering has dropped the first question, which never ended."""
    for is_suspended in (True, False):
        question = uuid4()
        app.runs.ask(app.runs.open(question, None, thread="thread"))
        if is_suspended:
            app.runs.suspend(question)
        app.runs.close(question)
    assert app.questions("ok") == 1
    assert len(app.runs.waiting) == 0


def test_a_visit_ends_with_its_graph(app: App) -> None:
    """An end that was lost must not leave a node active for an hour."""
    question = app.ask()
    call = app.call(app.visit(question))
    app.runs.close(question)
    assert app.value("hop2rag_node_active", node="speak") == 0
    assert len(app.runs) == 1
    app.runs.close(call)
    assert app.questions("ok") == 1

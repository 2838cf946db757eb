"""The runs of one question of an app, recorded and journaled as those of our own agent are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exporter.agent.runs import Runs
from exporter.langgraph.events import Events
from exporter.langgraph.run_handler import RunHandler
from workload.agent.calls import CallMeter
from workload.agent.metering import JournaledStage, JournaledVisit
from workload.agent.reuse_order import ReuseOrder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from langchain_core.outputs import LLMResult

    from exporter.agent.recorder import AgentQuestion, LlmCall
    from exporter.agent.run_tree import Run
    from workload.agent.metering import QuestionMeter
    from workload.app.tapped import TappedCall, TappedCalls


class AppCall(CallMeter):
    """An LLM call as the handler sees it, until it adopts what the tap knows of it."""

    def __init__(self, question: QuestionMeter, run: Run) -> None:
        unknown = ReuseOrder(None)
        super().__init__(question.recorder, run.span, run.node, run.hop, 0, reuse=unknown, salt="")
        self._question = question

    def adopt(self, tapped: TappedCall, reply: str) -> None:
        """Take token ids, usage and the times of chunks, which the app's library may hide."""
        self.reuse, self.arrival = tapped.reuse, tapped.arrival
        self.ledger, self.session = tapped.ledger, tapped.session
        self.usage = tapped.usage
        self.ttft, self.gaps = tapped.ttft, tapped.gaps
        self.said((), reply)

    def close(self, reason: str | None = None) -> None:
        """Record and journal the call as succeeded, or as failed for a reason."""
        super().close(reason)
        self._question.journal_call(self)


class QuestionRuns(Runs):
    """The runs of one question, whose beginning and end are the driver's.

    Attributes:
        hops: how often the node ran that ran most often.
    """

    def __init__(self, question: QuestionMeter, on_visit: Callable[[str], None]) -> None:
        super().__init__(question.recorder)
        self._meter, self._on_visit = question, on_visit
        self.hops = 0

    def ask(self, run: Run) -> None:
        """Let a run lie in the question."""
        tree = run.tree
        if not tree.question:
            run.question = tree.question = self._meter.question
            run.span = tree.question.span

    def close(self, run_id: UUID, reason: str | None = None) -> None:
        """Record a run that ended, or failed for a reason."""
        run = self._open.get(run_id)
        super().close(run_id, reason)
        if run and run.is_visit:
            self._on_visit(run.node)

    def _end(self, run: Run, question: AgentQuestion, reason: str | None = None) -> None:  # noqa: ARG002 - the driver's
        self.hops = max(self.hops, run.tree.hops)

    def _new_visit(self, run: Run) -> JournaledVisit:
        return JournaledVisit(self._meter, run.span, run.node, run.hop)

    def _new_stage(self, run: Run) -> JournaledStage:
        return JournaledStage(self._meter, run.span, "search", run.hop)

    def _new_call(self, run: Run) -> AppCall:
        return AppCall(self._meter, run)


class QuestionHandler(RunHandler):
    """Takes the events of one question."""

    def __init__(self, runs: QuestionRuns, calls: TappedCalls, failed: Callable[[], None]) -> None:
        super().__init__(Events(failed), lambda: runs)
        self._calls = calls

    def _answered(self, call: LlmCall, response: LLMResult) -> None:
        super()._answered(call, response)
        if isinstance(call, AppCall) and (tapped := self._calls.claim(ids_of(response))):
            call.adopt(tapped, text_of(response))


def ids_of(response: LLMResult) -> Iterator[str]:
    """Yield where model libraries keep the id of the server's response."""
    yield str((response.llm_output or {}).get("id") or "")
    for generation in (each for generations in response.generations for each in generations):
        message: Any = getattr(generation, "message", None)
        yield str(getattr(message, "id", None) or "")
        for facts in (getattr(message, "response_metadata", None), generation.generation_info):
            yield str((facts or {}).get("id") or "")


def text_of(response: LLMResult) -> str:
    """Return the text of a reply."""
    return "".join(generation.text for generations in response.generations for generation in generations)

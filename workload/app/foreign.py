"""Drives an app that is not ours: one question is one call of the app, with a handler of its own."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from exporter.agent.instruments import OTHER
from exporter.agent.llm_failures import reason_of
from workload.agent.graph import Answer
from workload.app.home import AppHome, app_home
from workload.app.loading import load_app
from workload.app.question_runs import QuestionHandler, QuestionRuns
from workload.app.tapped import TappedCalls
from workload.errors import Hop2RagError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from workload.agent.metering import QuestionMeter
    from workload.agent.reuse_order import ReuseOrder
    from workload.engine.launcher import RunningEngine
    from workload.fleet.ledger_thread import LedgerThread

_LOG = logging.getLogger(__name__)


@dataclass
class ForeignApp:
    """An app on one engine."""

    name: str
    app: Any
    home: AppHome
    calls: TappedCalls
    _has_failed: bool = field(init=False, default=False)

    async def answer(self, given: Mapping[str, Any], meter: QuestionMeter) -> Answer:
        """Answer what a row gives; an exception of the app is a result with a reason.

        Raises:
            UsageError: the app has answered, and no call has come through the tap.
        """
        runs = QuestionRuns(meter, self.home.visited)
        handler = QuestionHandler(runs, self.calls, self._failed)
        self.calls.salt = meter.salt
        config = {"callbacks": [handler], "configurable": {"thread_id": uuid4().hex}}
        result, reason = None, None
        try:
            result = await self.home.invoke(self.app, given, config)
        except Hop2RagError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever an app raises is an outcome of its question
            reason = reason_of(error, has_begun=False)
            reason = type(error).__name__ if reason == OTHER else reason
        if reason is None and not self.calls.seen:
            raise UsageError(
                f"The app {self.name} has answered, but no call came through the tap.",
                "Let it call OPENAI_BASE_URL, or take the endpoint in a factory (endpoint, options).",
            )
        ending = "error" if reason else "done"
        return Answer(
            answer=answer_of(result),
            supporting_facts=(),
            hops=runs.hops,
            termination=ending,
            trajectory={},
            reason=reason,
        )

    def _failed(self) -> None:
        if not self._has_failed:
            self._has_failed = True
            _LOG.exception("An event of the app could not be recorded; later ones are only missing.")


@contextmanager
def foreign_app(
    name: str, options: Mapping[str, str], engine: RunningEngine, reuse: ReuseOrder, ledger: LedgerThread | None
) -> Iterator[ForeignApp]:
    """Load an app, or take the loaded one, and aim the tap at its engine inside the block.

    Raises:
        UsageError: it cannot be loaded.
    """
    home, calls = app_home(), TappedCalls(reuse, ledger)
    app = load_app(name, home.tap.url, options, engine.key)
    with home.aimed(engine.endpoint, calls):
        yield ForeignApp(name, app, home, calls)
    if calls.unclaimed:
        _LOG.warning(
            "%d calls came through the tap that no callback of LangChain reported: the engine counted them, and the "
            "journal lacks them (docs/your-agent.md, What LangChain hides).",
            calls.unclaimed,
        )


def answer_of(result: Any) -> str:
    """Return an app's answer: a text, `answer` in a state, or the last of its `messages`; empty if it is elsewhere."""
    if isinstance(result, str):
        return result
    state = result if isinstance(result, dict) else {}
    if isinstance(state.get("answer"), str):
        return str(state["answer"])
    messages = state.get("messages") or [result]
    content = getattr(messages[-1], "content", "")
    return content if isinstance(content, str) else ""

"""Turns events of LangChain and LangGraph into runs, which a `Recorder` counts and traces."""

from __future__ import annotations

from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, Self, cast
from weakref import WeakKeyDictionary

from langgraph.callbacks import GraphCallbackHandler
from langgraph.errors import GraphBubbleUp, GraphDrained, GraphInterrupt

from exporter.agent.llm_failures import reason_of
from exporter.agent.recorder import LlmCall, reason_of_failure
from exporter.langgraph.replies import Reply, is_from_client_cache

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from langchain_core.outputs import LLMResult
    from langgraph.callbacks import GraphInterruptEvent, GraphResumeEvent

    from exporter.agent.run_tree import Run
    from exporter.agent.runs import Runs
    from exporter.langgraph.events import Events


STEP_TAG = "graph:step:"  # on the run of a node, and not on the runs inside it

P = ParamSpec("P")


def _guarded(event: Callable[P, None]) -> Callable[P, None]:
    """Serialize events, and keep their failures out of the app: each one is counted, the first one is logged."""

    @wraps(event)
    def take(*args: P.args, **kwargs: P.kwargs) -> None:
        handler = cast("RunHandler", args[0])
        handler._events.handle(partial(event, *args, **kwargs))  # noqa: SLF001 - it decorates the class's own methods

    return take


class RunHandler(GraphCallbackHandler):
    """Takes the events of questions, node visits, LLM calls and retriever calls.

    It runs inline as plain functions, so an async app needs no task per token, and a sync app no event loop.

    Args:
        events: handles them one at a time.
        runs: returns the runs that they open and close; others in a process that was forked.
    """

    run_inline = True

    def __init__(self, events: Events, runs: Callable[[], Runs]) -> None:
        self._events = events
        self._runs_of = runs
        self._replies: WeakKeyDictionary[LlmCall, Reply] = WeakKeyDictionary()

    def __deepcopy__(self, _: dict[int, Any]) -> Self:
        return self

    @property
    def _runs(self) -> Runs:
        return self._runs_of()

    def _answered(self, call: LlmCall, response: LLMResult) -> None:
        """Set an answered call's usage."""
        self._replies[call].end(call, response)

    @_guarded
    def on_chain_start(self, *_: Any, run_id: UUID, **event: Any) -> None:
        """Open a question, a node visit, or a run that only leads to others."""
        run, metadata = self._open(run_id, event), event.get("metadata") or {}
        self._runs.ask(run)
        if run.node.startswith("__"):  # LangGraph's own: an edge from START
            return
        if any(tag.startswith(STEP_TAG) for tag in event.get("tags") or ()):
            self._runs.visit(run, metadata.get("langgraph_step"))
        elif run.is_scope:  # a task, which has no steps
            self._runs.visit(run, run.scope)

    @_guarded
    def on_tool_start(self, *_: Any, run_id: UUID, **event: Any) -> None:
        """Open a run that may lead to a retriever or a model, unless it lies in no question."""
        if self._runs.knows(event.get("parent_run_id")):
            self._open(run_id, event)

    @_guarded
    def on_retriever_start(self, *_: Any, run_id: UUID, **event: Any) -> None:
        """Open a retriever's call as stage `search`: LangChain does not report the query's embedding separately."""
        self._runs.retrieve(self._open(run_id, event))

    @_guarded
    def on_llm_start(self, *_: Any, run_id: UUID, **event: Any) -> None:
        """Open an LLM call."""
        model = (event.get("metadata") or {}).get("ls_model_name", "")
        call = self._runs.call(self._open(run_id, event), str(model))
        self._replies[call] = Reply()

    on_chat_model_start = on_llm_start

    @_guarded
    def on_llm_new_token(self, token: Any, *_: Any, run_id: UUID, chunk: Any = None, **__: Any) -> None:
        """Add a chunk to a reply."""
        if call := self._runs.call_of(run_id):
            self._replies[call].add(call, token, chunk)

    @_guarded
    def on_stream_event(self, event: Any, *, run_id: UUID, **_: Any) -> None:
        """Add an event of LangChain's streaming protocol to a reply."""
        if call := self._runs.call_of(run_id):
            self._replies[call].add_event(call, event)

    @_guarded
    def on_llm_end(self, response: LLMResult, *_: Any, run_id: UUID, **__: Any) -> None:
        """Close an LLM call with the server's usage; a reply from LangChain's own cache is not a call."""
        call = self._runs.call_of(run_id)
        try:
            if is_from_client_cache(response):
                self._runs.abandon(run_id)
            elif call:
                self._answered(call, response)
            elif late := self._runs.cancelled_call_of(run_id):
                self._replies[late].end(late, response)
                if late.usage:
                    late.count(late.usage)
        finally:
            self._runs.close(run_id)

    @_guarded
    def on_llm_error(self, error: BaseException, *_: Any, run_id: UUID, **__: Any) -> None:
        """Close an LLM call that failed."""
        call = self._runs.call_of(run_id)
        has_begun = call is not None and (call.ttft is not None or call.first_answer is not None)
        self._runs.close(run_id, reason_of(error, has_begun=has_begun))

    @_guarded
    def on_chain_end(self, *_: Any, run_id: UUID, **__: Any) -> None:
        """Close a run that succeeded."""
        self._runs.close(run_id)

    on_tool_end = on_retriever_end = on_chain_end

    @_guarded
    def on_chain_error(self, error: BaseException, *_: Any, run_id: UUID, **__: Any) -> None:
        """Close a run that failed or was cancelled; an exception that controls LangGraph's flow is not a failure."""
        if isinstance(error, GraphInterrupt | GraphDrained):
            self._runs.suspend(run_id)
            self._runs.abandon(run_id)
        else:
            self._runs.close(run_id, None if isinstance(error, GraphBubbleUp) else reason_of_failure(error))

    on_tool_error = on_retriever_error = on_chain_error

    @_guarded
    def on_interrupt(self, event: GraphInterruptEvent) -> None:
        """Let the question wait for a person."""
        if event.run_id:
            self._runs.suspend(event.run_id)

    @_guarded
    def on_resume(self, event: GraphResumeEvent) -> None:
        """Continue the question that waited."""
        if event.run_id:
            self._runs.resume(event.run_id)

    def _open(self, run_id: UUID, event: Mapping[str, Any]) -> Run:
        metadata = event.get("metadata") or {}
        node, scope, thread = (
            str(metadata.get(name) or "") for name in ("langgraph_node", "langgraph_checkpoint_ns", "thread_id")
        )
        return self._runs.open(run_id, event.get("parent_run_id"), node, scope=scope, thread=thread)

"""The callback handler: it turns events of LangChain and LangGraph into runs, which a `Recorder` counts and traces.

The instruments and the recorder are those of our own agent, so its dashboards, rules and alerts fit the app too.
"""

from __future__ import annotations

import logging
import os
import time
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, Self, cast
from weakref import WeakKeyDictionary, WeakSet

from langgraph.callbacks import GraphCallbackHandler
from langgraph.errors import GraphBubbleUp, GraphDrained, GraphInterrupt
from prometheus_client import CollectorRegistry

from exporter.agent.llm_failures import reason_of
from exporter.agent.recorder import LlmCall, reason_of_failure
from exporter.agent.spans import NO_TRACING, AgentTracer
from exporter.langgraph.events import Events
from exporter.langgraph.instruments import MAX_NODES, Instruments, register
from exporter.langgraph.names import node_names
from exporter.langgraph.replies import Reply, is_from_client_cache
from exporter.langgraph.serving import Serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from uuid import UUID

    from langchain_core.outputs import LLMResult
    from langgraph.callbacks import GraphInterruptEvent, GraphResumeEvent

    from exporter.agent.run_tree import Run
    from exporter.agent.runs import Runs


_LOG = logging.getLogger("exporter.langgraph")
STEP_TAG = "graph:step:"  # on the run of a node, and not on the runs inside it

P = ParamSpec("P")


def _guarded(event: Callable[P, None]) -> Callable[P, None]:
    """Serialize events, and keep their failures out of the app: each one is counted, the first one is logged."""

    @wraps(event)
    def take(*args: P.args, **kwargs: P.kwargs) -> None:
        handler = cast("MeteringHandler", args[0])
        handler._events.handle(partial(event, *args, **kwargs))  # noqa: SLF001 - it decorates the class's own methods

    return take


class MeteringHandler(GraphCallbackHandler):
    """Counts and times the questions, node visits, LLM calls and retriever calls of a LangGraph app.

    A question is the outermost chain or graph that the handler sees; one that is resumed after an interrupt, in the
    same thread and process, is the same question. A node's `hop` is how often the node has run in its question; a
    question's hops are those of the node that ran most often. Time to first token needs a model that streams, cached
    tokens a server that reports them; neither is guessed.

    One handler serves any number of concurrent questions. It runs inline as plain functions, so an async app needs no
    task per token, and a sync app no event loop. A forked process begins at zero.

    Args:
        nodes: the app's nodes, as in `app.nodes`, which contains those of its subgraphs. Their series start at zero at
            once, those of any other node when it first runs. After the first 32, nodes count as `other`.
        llm_nodes: nodes that call a language model. Their series start at zero at once, those of any other node when
            it first calls one.
        registry: where the instruments are registered, in place of those of an earlier handler (default: a new
            registry).
        clock: seconds, monotonic.
        tracer: exports a trace of each question, such as `AgentTracer(trace.get_tracer("app"), "my-agent")`.

    Attributes:
        registry: contains the instruments, for an app that already has a metrics endpoint.
    """

    run_inline = True

    def __init__(
        self,
        nodes: Iterable[str] = (),
        llm_nodes: Iterable[str] = (),
        *,
        registry: CollectorRegistry | None = None,
        clock: Callable[[], float] = time.perf_counter,
        tracer: AgentTracer = NO_TRACING,
    ) -> None:
        names = node_names(nodes)
        if len(names) > MAX_NODES:
            _LOG.warning(
                "Of %d nodes the first %d have series of their own; the others share one.", len(names), MAX_NODES
            )
        self.registry = CollectorRegistry() if registry is None else registry
        self._tracer = tracer
        self._instruments = Instruments(names, list(llm_nodes), clock, tracer)
        register(self.registry, self._instruments)
        self._replies: WeakKeyDictionary[LlmCall, Reply] = WeakKeyDictionary()
        self._events = Events(self._instruments.failed)
        self._serving: Serving | None = None
        _HANDLERS.add(self)

    def __deepcopy__(self, _: dict[int, Any]) -> Self:
        return self

    @property
    def address(self) -> str:
        """The "host:port" at which /metrics is served, "" while it is not."""
        return self._serving.address if self._serving else ""

    def serve(self, port: int = 0, host: str = "127.0.0.1") -> Self:
        """Serve /metrics and /metrics/timeline from a thread of this process, and return the handler.

        Serving never stops the app. A port that another process has becomes the next free one, with a warning; a
        handler of this process that serves there is replaced; an address that cannot be used leaves the handler
        unserved, with a warning. A forked process serves on the next free port from its first event on. The entry
        `workload-HOST-PID-PORT.json` in the folder `HOP2RAG_TARGETS` (default: ~/.cache/hop2rag/targets) lets
        Prometheus find each process through `file_sd_configs`.

        Args:
            port: the port, 0 for a free one; see `address`.
            host: the address to listen on.
        """
        self.close()
        self._serving = Serving(
            self.registry, self._instruments.timeline, host, port, has_exemplars=self._tracer.is_tracing
        )
        self._serving.start()
        return self

    def close(self) -> None:
        """Stop serving."""
        if self._serving:
            self._serving.close()

    def forked(self) -> None:
        """Begin at zero in a process that was just forked, where nothing of the parent's threads exists."""
        self._instruments.begin()
        self._events = Events(self._instruments.failed)
        self._replies = WeakKeyDictionary()
        if self._serving:
            self._serving.leave_to_parent()

    @property
    def _runs(self) -> Runs:
        return self._instruments.runs

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
                self._replies[call].end(call, response)
                if call.usage is None and not call.is_counted_elsewhere:
                    self._instruments.no_usage(call.node)
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
        if self._serving:
            self._serving.start_again()
        metadata = event.get("metadata") or {}
        node, scope, thread = (
            str(metadata.get(name) or "") for name in ("langgraph_node", "langgraph_checkpoint_ns", "thread_id")
        )
        return self._runs.open(run_id, event.get("parent_run_id"), node, scope=scope, thread=thread)


_HANDLERS: WeakSet[MeteringHandler] = WeakSet()


def _after_fork() -> None:
    for handler in _HANDLERS:
        handler.forked()


os.register_at_fork(after_in_child=_after_fork)

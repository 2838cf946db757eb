"""Meters any LangGraph app through LangChain's callbacks, without a change to its nodes.

The instruments are those of our own agent (`exporter.agent.instruments`), so its dashboards, rules and alerts fit the
app too.
Needs the extra `langgraph`: `pip install ".[langgraph]"` in a checkout.
"""

from __future__ import annotations

import logging
import threading
import time
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, Self, cast

from langchain_core.callbacks import BaseCallbackHandler
from prometheus_client import CollectorRegistry

from exporter.agent.busy import BusySeconds
from exporter.agent.instruments import AgentMetrics, metering_failures
from exporter.agent.llm_failures import reason_of
from exporter.agent.runs import CANCELLED, Runs, Usage
from exporter.agent.spans import NO_SPANS
from exporter.timeline import NodeActivity
from exporter.web.server import MetricsServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from uuid import UUID

    from langchain_core.outputs import LLMResult

    from exporter.agent.runs import Run
    from exporter.agent.spans import Spans

_LOG = logging.getLogger("exporter.langgraph")
MAX_NODES = 32  # each that calls a model has some 170 series
STEP_TAG = "graph:step:"  # on the run of a node, and on none of the runs inside it

P = ParamSpec("P")


def _guarded(event: Callable[P, None]) -> Callable[P, None]:
    """Let events take turns, and keep their failures out of the app: counted each time, logged once."""

    @wraps(event)
    def take(*args: P.args, **kwargs: P.kwargs) -> None:
        handler = cast("MeteringHandler", args[0])
        try:
            with handler._lock:  # noqa: SLF001 - it decorates the class's own methods
                event(*args, **kwargs)
        except Exception:  # noqa: BLE001 - whatever happens to metering, the app goes on
            handler.failed()

    return take


class MeteringHandler(BaseCallbackHandler):
    """Counts and times the questions, node visits, LLM calls and retriever calls of a LangGraph app.

    A question is one invocation: the outermost run that the handler sees. A node's `hop` is how often the node has run
    in its question, a question's hops are those of the node that ran most often. The time to the first token is known
    of models that stream, cached tokens of servers that tell them; what is not told is not counted.

    One handler serves any number of questions at a time. It runs inline as plain functions, so an async app needs no
    task for each token, and a sync app no event loop.

    Args:
        nodes: the app's nodes, as in `app.nodes`; what is not among them is counted as `other`, and so is what comes
            after the first 32.
        llm_nodes: those of them that call a language model (default: any may).
        registry: where the instruments are registered (default: a registry of its own).
        clock: seconds, monotonic.
        spans: exports a trace of each question, such as `Spans(trace.get_tracer("app"), "my-agent")`.

    Attributes:
        registry: holds the instruments, for an app that has a metrics endpoint already.
        address: "host:port", once `serve` was called.
    """

    run_inline = True

    def __init__(
        self,
        nodes: Iterable[str],
        llm_nodes: Iterable[str] | None = None,
        *,
        registry: CollectorRegistry | None = None,
        clock: Callable[[], float] = time.perf_counter,
        spans: Spans = NO_SPANS,
    ) -> None:
        names = [name for name in nodes if not name.startswith("__")]  # LangGraph's own: __start__, __end__
        self.registry = CollectorRegistry() if registry is None else registry
        self._failures = metering_failures(self.registry)
        self.address = ""
        if len(names) > MAX_NODES:
            _LOG.warning(
                "Of %d nodes the first %d have series of their own; the others share one.", len(names), MAX_NODES
            )
        callers = names if llm_nodes is None else list(llm_nodes)
        metrics = AgentMetrics(self.registry, names[:MAX_NODES], callers[:MAX_NODES])
        busy = BusySeconds(clock)
        self.registry.register(busy)
        self._activity = NodeActivity(lambda: time.time_ns() // 1_000_000)
        self._runs = Runs(metrics, self._activity, busy, clock, spans, self._forgot)
        self._lock = threading.Lock()
        self._has_failed = False
        self._has_forgotten = False
        self._server: MetricsServer | None = None

    def serve(self, port: int = 0, host: str = "127.0.0.1") -> Self:
        """Serve /metrics and /metrics/timeline from a thread of this process, and return the handler.

        Args:
            port: 0 for a free one; see `address`.
            host: the address to listen on.

        Raises:
            UsageError: the address is in use, not allowed, or not this machine's.
        """
        self._server = MetricsServer(
            self.registry, timeline=self._activity.expose, host=host, port=port, flag="serve(port=...)"
        )
        self.address = self._server.start()
        return self

    def close(self) -> None:
        """Stop serving."""
        if self._server:
            self._server.close()

    def failed(self) -> None:
        """Count an event that could not be metered, and log the first one; called while its exception is handled."""
        self._failures.inc()
        if not self._has_failed:
            self._has_failed = True
            _LOG.exception("An event could not be metered; from now on such failures are only counted.")

    def _forgot(self) -> None:
        """Count a question whose end was never told, and log the first."""
        self._failures.inc()
        if not self._has_forgotten:
            self._has_forgotten = True
            _LOG.warning(
                "A question's end was never told; it counts as cancelled, and from now on such are only counted."
            )

    @_guarded
    def on_chain_start(
        self,
        *_: Any,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **__: Any,
    ) -> None:
        """Open a question, a node's visit, or a run that only leads to others."""
        run = self._open(run_id, parent_run_id, metadata)
        if parent_run_id is None:
            self._runs.ask(run)
        if metadata and any(tag.startswith(STEP_TAG) for tag in tags or ()):
            # a subgraph counts its own steps, from 1 in each visit
            scope = str(metadata.get("langgraph_checkpoint_ns", "")).rpartition("|")[0]
            self._runs.visit(run, (scope, metadata.get("langgraph_step")))

    @_guarded
    def on_tool_start(
        self,
        *_: Any,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **__: Any,
    ) -> None:
        """Open a run that may lead to a retriever or a model."""
        self._open(run_id, parent_run_id, metadata)

    @_guarded
    def on_retriever_start(
        self,
        *_: Any,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **__: Any,
    ) -> None:
        """Open a retriever's call: stage `search`, for LangChain does not tell the query's embedding apart."""
        self._runs.retrieve(self._open(run_id, parent_run_id, metadata))

    @_guarded
    def on_llm_start(
        self,
        *_: Any,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **__: Any,
    ) -> None:
        """Open an LLM call."""
        self._runs.call(self._open(run_id, parent_run_id, metadata), str((metadata or {}).get("ls_model_name", "")))

    on_chat_model_start = on_llm_start

    @_guarded
    def on_llm_new_token(self, token: Any, *_: Any, run_id: UUID, chunk: Any = None, **__: Any) -> None:
        """Note the first token; the empty piece that opens a stream is none."""
        if token or says_something(getattr(chunk, "message", None)):
            self._runs.token(run_id)

    @_guarded
    def on_llm_end(self, response: LLMResult, *_: Any, run_id: UUID, **__: Any) -> None:
        """Close an LLM call with what its server told."""
        try:
            if run := self._runs.find(run_id):
                run.usage = told_usage(response)
        finally:
            self._runs.close(run_id)

    @_guarded
    def on_llm_error(self, error: BaseException, *_: Any, run_id: UUID, **__: Any) -> None:
        """Close an LLM call that failed, by its reason."""
        run = self._runs.find(run_id)
        self._runs.close(run_id, reason_of(error, has_begun=run is not None and run.ttft is not None))

    @_guarded
    def on_chain_end(self, *_: Any, run_id: UUID, **__: Any) -> None:
        """Close a run that succeeded."""
        self._runs.close(run_id)

    on_tool_end = on_retriever_end = on_chain_end

    @_guarded
    def on_chain_error(self, error: BaseException, *_: Any, run_id: UUID, **__: Any) -> None:
        """Close a run that failed; whoever cancels or abandons a question raises what is no `Exception`."""
        self._runs.close(run_id, type(error).__name__ if isinstance(error, Exception) else CANCELLED)

    on_tool_error = on_retriever_error = on_chain_error

    def _open(self, run_id: UUID, parent_run_id: UUID | None, metadata: Mapping[str, Any] | None) -> Run:
        return self._runs.open(run_id, parent_run_id, str((metadata or {}).get("langgraph_node", "")))


def says_something(message: Any) -> bool:
    """Return whether a streamed message without text carries a tool call or a thought."""
    return bool(getattr(message, "tool_call_chunks", None) or getattr(message, "additional_kwargs", None))


def told_usage(response: LLMResult) -> Usage | None:
    """Return the tokens of a call, None if the response does not tell them.

    They are the message's `usage_metadata`; of it, `input_token_details.cache_read` is vLLM's
    `usage.prompt_tokens_details.cached_tokens`.
    """
    message = getattr(response.generations[0][0], "message", None)
    told = getattr(message, "usage_metadata", None)
    if not told:
        return None
    cached = told.get("input_token_details", {}).get("cache_read")
    return Usage(told["input_tokens"], told["output_tokens"], cached)

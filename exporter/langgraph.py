"""Meters any LangGraph app through LangChain's callbacks, without a change to its nodes.

The instruments and the recorder are those of our own agent, so its dashboards, rules and alerts fit the app too.
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
from exporter.agent.recorder import Recorder, reason_of_failure
from exporter.agent.runs import Run, Runs
from exporter.agent.spans import NO_TRACING, AgentTracer
from exporter.agent.usage import Usage
from exporter.timeline import NodeActivity
from exporter.web.server import MetricsServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from uuid import UUID

    from langchain_core.outputs import LLMResult


_LOG = logging.getLogger("exporter.langgraph")
MAX_NODES = 32  # each that calls a model has some 170 series
STEP_TAG = "graph:step:"  # on the run of a node, and not on the runs inside it

P = ParamSpec("P")


def _guarded(event: Callable[P, None]) -> Callable[P, None]:
    """Serialize events, and keep their failures out of the app: each one is counted, the first one is logged."""

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

    A question is one invocation of the app. A node's `hop` is how often the node has run in its question; a question's
    hops are those of the node that ran most often. Time to first token needs a model that streams, cached tokens a
    server that reports them; what is not reported is not counted.

    One handler serves any number of concurrent questions. It runs inline as plain functions, so an async app needs no
    task per token, and a sync app no event loop.

    Args:
        nodes: the app's nodes, as in `app.nodes`; any other node is counted as `other`, and so is every node after the
            first 32.
        llm_nodes: the nodes that call a language model (default: any may).
        registry: where the instruments are registered (default: a new registry).
        clock: seconds, monotonic.
        tracer: exports a trace of each question, such as `AgentTracer(trace.get_tracer("app"), "my-agent")`.

    Attributes:
        registry: contains the instruments, for an app that already has a metrics endpoint.
        address: "host:port", once `serve` has been called.
    """

    run_inline = True

    def __init__(
        self,
        nodes: Iterable[str],
        llm_nodes: Iterable[str] | None = None,
        *,
        registry: CollectorRegistry | None = None,
        clock: Callable[[], float] = time.perf_counter,
        tracer: AgentTracer = NO_TRACING,
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
        recorder = Recorder(metrics=metrics, activity=self._activity, busy=busy, clock=clock, tracer=tracer)
        self._runs = Runs(recorder, self._dropped)
        self._lock = threading.Lock()
        self._has_failed = False
        self._has_dropped = False
        self._server: MetricsServer | None = None

    def serve(self, port: int = 0, host: str = "127.0.0.1") -> Self:
        """Serve /metrics and /metrics/timeline from a thread of this process, and return the handler.

        Args:
            port: the port, 0 for a free one; see `address`.
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

    def _dropped(self) -> None:
        """Count a question or a run whose end was never reported, and log the first one."""
        self._failures.inc()
        if not self._has_dropped:
            self._has_dropped = True
            _LOG.warning("The app never reported the end of a question; it counts as cancelled, as later ones will.")

    @_guarded
    def on_chain_start(self, *_: Any, run_id: UUID, **event: Any) -> None:
        """Open a question, a node visit, or a run that only leads to others."""
        run, metadata = self._open(run_id, event), event.get("metadata")
        if event.get("parent_run_id") is None:
            self._runs.ask(run)
        if metadata and any(tag.startswith(STEP_TAG) for tag in event.get("tags") or ()):
            # a subgraph numbers its steps from 1 in each visit
            scope = str(metadata.get("langgraph_checkpoint_ns", "")).rpartition("|")[0]
            self._runs.visit(run, (scope, metadata.get("langgraph_step")))

    @_guarded
    def on_tool_start(self, *_: Any, run_id: UUID, **event: Any) -> None:
        """Open a run that may lead to a retriever or a model."""
        self._open(run_id, event)

    @_guarded
    def on_retriever_start(self, *_: Any, run_id: UUID, **event: Any) -> None:
        """Open a retriever's call as stage `search`: LangChain does not report the query's embedding separately."""
        self._runs.retrieve(self._open(run_id, event))

    @_guarded
    def on_llm_start(self, *_: Any, run_id: UUID, **event: Any) -> None:
        """Open an LLM call."""
        model = (event.get("metadata") or {}).get("ls_model_name", "")
        self._runs.call(self._open(run_id, event), str(model))

    on_chat_model_start = on_llm_start

    @_guarded
    def on_llm_new_token(self, token: Any, *_: Any, run_id: UUID, chunk: Any = None, **__: Any) -> None:
        """Record the time to first token; ignore the empty chunk that opens a stream."""
        if (token or has_content(getattr(chunk, "message", None))) and (call := self._runs.call_of(run_id)):
            call.first_token()

    @_guarded
    def on_llm_end(self, response: LLMResult, *_: Any, run_id: UUID, **__: Any) -> None:
        """Close an LLM call with the server's usage."""
        try:
            if call := self._runs.call_of(run_id):
                call.usage = usage_of(response)
        finally:
            self._runs.close(run_id)

    @_guarded
    def on_llm_error(self, error: BaseException, *_: Any, run_id: UUID, **__: Any) -> None:
        """Close an LLM call that failed."""
        call = self._runs.call_of(run_id)
        self._runs.close(run_id, reason_of(error, has_begun=call is not None and call.ttft is not None))

    @_guarded
    def on_chain_end(self, *_: Any, run_id: UUID, **__: Any) -> None:
        """Close a run that succeeded."""
        self._runs.close(run_id)

    on_tool_end = on_retriever_end = on_chain_end

    @_guarded
    def on_chain_error(self, error: BaseException, *_: Any, run_id: UUID, **__: Any) -> None:
        """Close a run that failed or was cancelled."""
        self._runs.close(run_id, reason_of_failure(error))

    on_tool_error = on_retriever_error = on_chain_error

    def _open(self, run_id: UUID, event: Mapping[str, Any]) -> Run:
        node = (event.get("metadata") or {}).get("langgraph_node", "")
        return self._runs.open(run_id, event.get("parent_run_id"), str(node))


def has_content(message: Any) -> bool:
    """Return whether a streamed message without text carries a tool call or reasoning."""
    return bool(getattr(message, "tool_call_chunks", None) or getattr(message, "additional_kwargs", None))


def usage_of(response: LLMResult) -> Usage | None:
    """Return the tokens of a call, None if the response does not contain them.

    They are the message's `usage_metadata`, whose `input_token_details.cache_read` is vLLM's
    `usage.prompt_tokens_details.cached_tokens`.

    Raises:
        ValueError: a count is impossible.
    """
    message = getattr(response.generations[0][0], "message", None)
    usage = getattr(message, "usage_metadata", None)
    if not usage:
        return None
    return Usage(usage["input_tokens"], usage["output_tokens"], usage.get("input_token_details", {}).get("cache_read"))

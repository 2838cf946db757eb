"""The callback handler: it turns events of LangChain and LangGraph into runs, which a `Recorder` counts and traces.

The instruments and the recorder are those of our own agent, so its dashboards, rules and alerts fit the app too.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakKeyDictionary, WeakSet

from prometheus_client import CollectorRegistry

from exporter.agent.spans import NO_TRACING, AgentTracer
from exporter.langgraph.events import Events
from exporter.langgraph.instruments import MAX_NODES, Instruments, register
from exporter.langgraph.names import node_names
from exporter.langgraph.run_handler import RunHandler
from exporter.langgraph.serving import Serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from uuid import UUID

    from langchain_core.outputs import LLMResult

    from exporter.agent.recorder import LlmCall
    from exporter.agent.run_tree import Run


_LOG = logging.getLogger("exporter.langgraph")


class MeteringHandler(RunHandler):
    """Counts and times the questions, node visits, LLM calls and retriever calls of a LangGraph app.

    A question is the outermost chain or graph that the handler sees; one that is resumed after an interrupt, in the
    same thread and process, is the same question. A node's `hop` is how often the node has run in its question; a
    question's hops are those of the node that ran most often. Time to first token needs a model that streams, cached
    tokens a server that reports them; neither is guessed.

    One handler serves any number of concurrent questions. A forked process begins at zero.

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
        super().__init__(Events(self._instruments.failed), lambda: self._instruments.runs)
        self._serving: Serving | None = None
        _HANDLERS.add(self)

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

    def _answered(self, call: LlmCall, response: LLMResult) -> None:
        super()._answered(call, response)
        if call.usage is None and not call.is_counted_elsewhere:
            self._instruments.no_usage(call.node)

    def _open(self, run_id: UUID, event: Mapping[str, Any]) -> Run:
        if self._serving:
            self._serving.start_again()
        return super()._open(run_id, event)


_HANDLERS: WeakSet[MeteringHandler] = WeakSet()


def _after_fork() -> None:
    for handler in _HANDLERS:
        handler.forked()


os.register_at_fork(after_in_child=_after_fork)

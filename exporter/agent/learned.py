"""The instruments of any app: its nodes are learned as they run, and a series waits for its first event.

A series starts at zero when the operation that can move it starts, so a rate includes the first one. An app without a
retriever has no series of retrieval, a model that does not stream no series of first tokens.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from exporter.agent.instruments import ERROR_REASONS, OTHER, AgentMetrics, hop_label
from exporter.timeline import LabelSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from prometheus_client import CollectorRegistry

# "oversized" is a limit of our own client
REASONS = (*(reason for reason in ERROR_REASONS if reason != "oversized"), OTHER)
ENDINGS = (("ok", "done"), ("failed", "error"), ("cancelled", "error"))


class LearnedMetrics(AgentMetrics):
    """The instruments of any app.

    Args:
        nodes: the nodes that are known from the start.
        llm_nodes: those that are known to call a language model.
        limit: the most nodes with series of their own.
        on_other: called with the name of each visited node that is counted as `other`.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        nodes: Sequence[str],
        llm_nodes: Iterable[str],
        limit: int,
        on_other: Callable[[str], None],
    ) -> None:
        self._names = LabelSet(limit, tuple(nodes[:limit]))
        self._on_other = on_other
        self._visited: set[str] = set()
        self._callers: set[str] = set()
        self._calls: set[tuple[str, str]] = set()
        super().__init__(registry, nodes[:limit], ())
        for node in llm_nodes:
            self.call(node, 1)

    def _start_at_zero(self, nodes: Sequence[str], llm_nodes: Sequence[str]) -> None:  # noqa: ARG002 - none is known yet
        for outcome, termination in ENDINGS:
            self.questions.labels(outcome, termination)
        self.hops.labels(OTHER)
        for node in nodes:
            self.node(node)

    def node(self, name: str) -> str:
        """Return the `node` label of a visit that starts: the name, or `other` beyond the limit."""
        label = self._label(name)
        if label not in self._visited:
            self._visited.add(label)
            for instrument in (self.node_duration, self.node_failures, self.node_active):
                instrument.labels(label)
        return label

    def llm_node(self, name: str) -> str:
        """Return the `node` label of an LLM call that starts: the name, or `other` beyond the limit."""
        label = self._label(name)
        if label not in self._callers:
            self._callers.add(label)
            for instrument in (self.llm_call_duration, self.calls_without_usage):
                instrument.labels(label)
            for reason in REASONS:
                self.llm_errors.labels(label, reason)
        return label

    def call(self, node: str, hop: int) -> tuple[str, str]:
        """Return the labels `node` and `hop` of an LLM call that starts."""
        labels = self.llm_node(node), hop_label(hop)
        if labels not in self._calls:
            self._calls.add(labels)
            for instrument in (self.prompt_tokens, self.completion_tokens, self.prompt_size):
                instrument.labels(*labels)
            for counter, values in self._expected.items():
                for further in product(*values):
                    counter.labels(*labels, *further)
        return labels

    def stage(self, name: str) -> str:
        """Return the label `stage` of a stage of retrieval that starts."""
        for instrument in (self.retrieval_duration, self.retrieval_failures):
            instrument.labels(name)
        return name

    def _known_calls(self) -> Iterable[tuple[str, str]]:
        return self._calls

    def _label(self, name: str) -> str:
        label = self._names.admit(name)
        if label != name:
            self._on_other(name)
        return label

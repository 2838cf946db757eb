"""Queries of a question's latency: the time of its nodes, its hops, and what ends its loop."""

from __future__ import annotations

from workload.promql.counts import count
from workload.promql.query import Query


def node_seconds(node: str) -> Query:
    """Return the mean time of a visit of a node."""
    matchers = f'{{node="{node}",$scope}}'
    return Query(
        f"hop2rag_{node}_duration_mean",
        f"sum by (arm) (rate(hop2rag_node_duration_seconds_sum{matchers}[1m]))"
        f" / (sum by (arm) (rate(hop2rag_node_duration_seconds_count{matchers}[1m])) > 0)",
    )


def ended_by(termination: str) -> Query:
    """Return the questions whose loop was ended by this."""
    return Query(
        f"hop2rag_questions_ended_by_{termination}",
        count("arm", f'hop2rag_questions_total{{termination="{termination}",$scope}}'),
    )


DECOMPOSE, EXTRACT_CLUES, DECIDE = (node_seconds(node) for node in ("decompose", "extract_clues", "decide"))
GENERATE, RETRIEVE = (node_seconds(node) for node in ("generate", "retrieve"))
DONE, ENOUGH, MAX_HOPS, ERROR = (ended_by(termination) for termination in ("done", "enough", "max_hops", "error"))
HOPS = Query(
    "hop2rag_hops_mean",
    "sum by (arm) (rate(hop2rag_hops_sum{$scope}[1m])) / (sum by (arm) (rate(hop2rag_hops_count{$scope}[1m])) > 0)",
)

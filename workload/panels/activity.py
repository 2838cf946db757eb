"""Panels of what ran when: nodes, retrieval against generation, and how far they overlap."""

from __future__ import annotations

from workload.panels.panel import Line, Panel
from workload.promql import activity as promql

NODE_TIMELINE = Panel(
    key="node_timeline",
    title="Which node is active?",
    why="A worker is inside the node, from the millisecond it enters to the one it leaves "
    "(hop2rag_timeline_node_active).",
    unit="none",
    lines=(Line(promql.NODE_TIMELINE, "{{node}}"),),
    empty="no traffic",
    kind="state-timeline",
    words=((0.0, ""), (1.0, "active")),
)
NODE_SHARE = Panel(
    key="node_visits_in_progress",
    title="Visits in progress by node",
    why="Mean number of workers inside each node over a step (hop2rag_node_active): where a question's time goes.",
    unit="short",
    lines=(Line(promql.NODE_SHARE, "{{node}}"),),
    empty="no traffic",
    is_stacked=True,
)
NODE_MEAN = Panel(
    key="node_duration_mean",
    title="Visits of each node, and the mean time of one",
    why="Of visits that ended well, from their real start to their real end (hop2rag_node_duration_seconds).",
    unit="s",
    lines=(Line(promql.NODE_VISITS, "visits", "short"), Line(promql.NODE_MEAN, "one visit")),
    empty="no traffic",
    kind="table",
)
OVERLAP_SECONDS = Panel(
    key="activity_seconds",
    title="Overlap in seconds, by activity",
    why="Wall time of the load over the time shown (hop2rag_busy_seconds_total).",
    unit="s",
    lines=(Line(promql.OVERLAP_SECONDS, "{{activity}}"),),
    empty="no traffic",
    kind="bargauge",
)
RETRIEVAL_MEAN = Panel(
    key="retrieval_stage_mean",
    title="One retrieval by stage, mean",
    why="Embedding the query, searching the store, ranking again (hop2rag_retrieval_duration_seconds).",
    unit="s",
    lines=(Line(promql.RETRIEVAL_MEAN, "{{stage}}"),),
    empty="no traffic",
    kind="bargauge",
)

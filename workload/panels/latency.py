"""Panels of a question's latency."""

from __future__ import annotations

from workload.panels.panel import Line, Panel
from workload.promql import latency as promql

NODE_SECONDS = Panel(
    key="node_seconds",
    title="Time of a visit by node, mean over a minute",
    why="From a node's real start to its real end (hop2rag_node_duration_seconds).",
    unit="s",
    lines=(
        Line(promql.DECOMPOSE, "decompose"),
        Line(promql.RETRIEVE, "retrieve"),
        Line(promql.EXTRACT_CLUES, "extract_clues"),
        Line(promql.DECIDE, "decide"),
        Line(promql.GENERATE, "generate"),
    ),
)
HOPS = Panel(
    key="hops",
    title="Hops of a question, mean over a minute",
    why="Each hop is a retrieval and three calls (hop2rag_hops).",
    unit="short",
    lines=(Line(promql.HOPS),),
)
ENDINGS = Panel(
    key="endings",
    title="What ended the loops",
    why="DONE from decompose, a yes of decide, the limit of hops, or an error (hop2rag_questions_total).",
    unit="short",
    lines=(
        Line(promql.DONE, "done"),
        Line(promql.ENOUGH, "enough"),
        Line(promql.MAX_HOPS, "max_hops"),
        Line(promql.ERROR, "error"),
    ),
    empty="no traffic",
    kind="bargauge",
)

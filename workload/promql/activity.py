"""Queries of what ran when: nodes, retrieval against generation, and how far they overlap."""

from __future__ import annotations

from workload.promql.counts import count, gained
from workload.promql.query import Query

# Heartbeats come every second, so two seconds bridge one that is late and no more.
NODE_TIMELINE = Query(
    "node_timeline",
    "max by (node) (last_over_time(hop2rag_timeline_node_active{"
    'node=~"decompose|retrieve|grade|extract_clues|decide|generate",job="workload-timeline",$scope}[2s]))',
)
# Of the gauge: a visit that lasts longer than the window would be counted in it whole, when it ends.
NODE_SHARE = Query(
    "node_visits_in_progress", "sum by (node) (avg_over_time(hop2rag_node_active{$scope}[$__rate_interval])) > 0"
)
NODE_VISITS = Query("node_visits", f"{count('arm, node', 'hop2rag_node_duration_seconds_count{$scope}')} > 0")
NODE_MEAN = Query(
    "node_duration_mean",
    "sum by (arm, node) (increase(hop2rag_node_duration_seconds_sum{$scope}[$__range]))"
    " / (sum by (arm, node) (increase(hop2rag_node_duration_seconds_count{$scope}[$__range])) > 0)",
)
OVERLAP_SECONDS = Query("activity_seconds", f"sum by (arm, activity) ({gained('hop2rag_busy_seconds_total{$scope}')})")
RETRIEVAL_MEAN = Query(
    "retrieval_stage_mean",
    "sum by (arm, stage) (increase(hop2rag_retrieval_duration_seconds_sum{$scope}[$__range]))"
    " / (sum by (arm, stage) (increase(hop2rag_retrieval_duration_seconds_count{$scope}[$__range])) > 0)",
)

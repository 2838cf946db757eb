"""Queries of the load levels: questions in flight, their rate and latency, and what the engine holds meanwhile."""

from __future__ import annotations

from workload.promql.query import Query

RUNNING_CALLS = "vllm:num_requests_running"
WAITING_CALLS = "vllm:num_requests_waiting"
PREEMPTIONS = "vllm:num_preemptions_total"

QUESTIONS_IN_FLIGHT = Query("hop2rag_questions_in_flight", "sum by (arm) (hop2rag_node_active{$scope})")
QUESTION_RATE = Query(
    "hop2rag_questions_rate", 'sum by (arm) (rate(hop2rag_questions_total{outcome="ok",$scope}[$__rate_interval]))'
)
QUESTION_SECONDS = Query(
    "hop2rag_question_duration_mean",
    "sum by (arm) (rate(hop2rag_question_duration_seconds_sum{$scope}[1m]))"
    " / (sum by (arm) (rate(hop2rag_question_duration_seconds_count{$scope}[1m])) > 0)",
)
QUEUE_SECONDS = Query(
    "vllm_queue_time_p95", "max by (arm) (instance:vllm_request_queue_time_seconds:p95_rate1m{$scope})"
)

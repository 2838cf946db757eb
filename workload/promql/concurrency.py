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
# vLLM's first bucket of these ends at 0.3 s, so a quantile of shorter times is but a place in it; means are exact.
QUEUE_SECONDS = Query(
    "vllm_queue_time_mean",
    'sum by (arm) (rate(vllm:request_queue_time_seconds_sum{job="vllm",$scope}[1m]))'
    ' / (sum by (arm) (rate(vllm:request_queue_time_seconds_count{job="vllm",$scope}[1m])) > 0)',
)
PREFILL_SECONDS = Query(
    "vllm_prefill_time_mean",
    'sum by (arm) (rate(vllm:request_prefill_time_seconds_sum{job="vllm",$scope}[1m]))'
    ' / (sum by (arm) (rate(vllm:request_prefill_time_seconds_count{job="vllm",$scope}[1m])) > 0)',
)
DECODE_SECONDS = Query(
    "vllm_decode_time_mean",
    'sum by (arm) (rate(vllm:request_decode_time_seconds_sum{job="vllm",$scope}[1m]))'
    ' / (sum by (arm) (rate(vllm:request_decode_time_seconds_count{job="vllm",$scope}[1m])) > 0)',
)

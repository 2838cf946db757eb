"""Queries of growing contexts: how long prompts are, and what their first and their further tokens cost."""

from __future__ import annotations

from workload.promql.query import Query

PROMPT_SIZE = Query(
    "hop2rag_llm_call_prompt_tokens_mean",
    "sum by (arm) (rate(hop2rag_llm_call_prompt_tokens_sum{$scope}[1m]))"
    " / (sum by (arm) (rate(hop2rag_llm_call_prompt_tokens_count{$scope}[1m])) > 0)",
)
FIRST_TOKEN = Query(
    "hop2rag_llm_time_to_first_token_mean",
    "sum by (arm) (rate(hop2rag_llm_time_to_first_token_seconds_sum{$scope}[1m]))"
    " / (sum by (arm) (rate(hop2rag_llm_time_to_first_token_seconds_count{$scope}[1m])) > 0)",
)
FURTHER_TOKEN = Query(
    "vllm_inter_token_latency_p50", "max by (arm) (instance:vllm_inter_token_latency_seconds:p50_rate1m{$scope})"
)

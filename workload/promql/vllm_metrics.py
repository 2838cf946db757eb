"""Queries of the prefix-caching comparison: what the engine's cache, throughput and queue did in each arm."""

from __future__ import annotations

from workload.promql.query import Query

HITS = "vllm:prefix_cache_hits_total"
QUERIES = "vllm:prefix_cache_queries_total"
PREFILL_SECONDS = "vllm:request_prefill_time_seconds_sum"
IN_SYSTEM_SECONDS = "vllm:e2e_request_latency_seconds_sum"
ITL_BUCKETS = "vllm:inter_token_latency_seconds_bucket"
# Read at both ends of each window, exactly: for tables, never for a line in a panel.
COUNTERS = (
    HITS,
    QUERIES,
    PREFILL_SECONDS,
    IN_SYSTEM_SECONDS,
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:num_preemptions_total",
    "vllm:request_success_total",
)


def _peak(way: str, metric: str, recorded: str) -> str:
    """Return the highest of each step as the fast job saw it, or the recorded level where there is no such job."""
    fast = f'{way} by (arm) (max_over_time({metric}{{job="vllm-fast",$scope}}[$__rate_interval]))'
    return f"{fast} or {way} by (arm) ({recorded}{{$scope}})"


HIT_RATIO = Query(
    "vllm_prefix_cache_hit_ratio",
    # of several servers by their tokens; a mean of their ratios only where there is no counter
    "sum by (arm) (instance:vllm_prefix_cache_hits:rate10s{$scope})"
    " / (sum by (arm) (instance:vllm_prefix_cache_queries:rate10s{$scope}) > 0)"
    " or avg by (arm) (instance:vllm_prefix_cache_hits_per_queries:ratio_rate10s{$scope})",
)
CACHING_ENABLED = Query(
    "vllm_prefix_caching_enabled", "min by (arm) (instance:vllm_prefix_caching_enabled:min{$scope})"
)
KV_USAGE = Query(
    "vllm_kv_cache_usage_ratio", _peak("max", "vllm:kv_cache_usage_perc", "instance:vllm_kv_cache_usage_ratio:max")
)
PREEMPTIONS = Query("vllm_preemptions_rate", "sum by (arm) (instance:vllm_preemptions:rate10s{$scope})")
PROMPT_THROUGHPUT = Query(
    # not the recorded rate over 10 s: drawn beside the hits it must have their window
    "vllm_prompt_tokens_rate",
    'sum by (arm) (rate(vllm:prompt_tokens_total{job="vllm",$scope}[$__rate_interval]))',
)
GENERATION_THROUGHPUT = Query(
    "vllm_generation_tokens_rate", "sum by (arm) (instance:vllm_generation_tokens:rate10s{$scope})"
)
CACHED_PROMPT_TOKENS = Query(
    "vllm_prefix_cache_hits_rate",
    f'sum by (arm) (rate({HITS}{{job="vllm",$scope}}[$__rate_interval]))',
)
RUNNING = Query(
    "vllm_requests_running", _peak("sum", "vllm:num_requests_running", "instance:vllm_requests_running:sum")
)
WAITING = Query(
    "vllm_requests_waiting", _peak("sum", "vllm:num_requests_waiting", "instance:vllm_requests_waiting:sum")
)
QUESTIONS_ANSWERED = Query("hop2rag_questions_answered", 'sum by (arm) (hop2rag_questions_total{outcome="ok",$scope})')

"""Queries of the overview: the state of engine and agent, and the arms beside each other.

Totals are over all that is looked at (`$__range`) and divided afterwards: a mean of ratios over time is no ratio.
"""

from __future__ import annotations

from workload.promql.query import Query

BY_ARM = "sum by (experiment, arm)"
ANSWERED = f'{BY_ARM} (increase(hop2rag_questions_total{{outcome="ok",$scope}}[$__range]))'
PROMPT = f"{BY_ARM} (increase(hop2rag_prompt_tokens_total{{$scope}}[$__range]))"
CACHED = f"{BY_ARM} (increase(hop2rag_cached_prompt_tokens_total{{$scope}}[$__range]))"


def _mean(histogram: str) -> str:
    sums, counts = (f"{BY_ARM} (increase({histogram}_{part}{{$scope}}[$__range]))" for part in ("sum", "count"))
    return f"{sums} / ({counts} > 0)"


def _above_lowest(expression: str) -> str:
    lowest = f"min by (experiment) ({expression})"
    return f"({expression}) / on (experiment) group_left () ({lowest} > 0) - 1"


_HIT_SHARE = f"{CACHED} / ({PROMPT} > 0)"
_UNCACHED = f"({PROMPT} - {CACHED}) / ({ANSWERED} > 0)"
_FIRST_TOKEN = _mean("hop2rag_llm_time_to_first_token_seconds")
_CALL = _mean("hop2rag_llm_call_duration_seconds")
_QUESTION = _mean("hop2rag_question_duration_seconds")

ARM_CACHING = Query(
    "arm_caching",
    "min by (experiment, arm) (last_over_time(instance:vllm_prefix_caching_enabled:min{$scope}[$__range]))",
)
ARM_VERSION = Query(
    "arm_vllm_version", "max by (experiment, arm, version) (last_over_time(hop2rag_vllm_info{$scope}[$__range]))"
)
ARM_ANSWERED = Query("arm_questions_answered", f"round({ANSWERED})")
# Where caching is off there is no share of hits: 0 % would be a cache that missed.
ARM_HIT_SHARE = Query("arm_hit_share", f"({_HIT_SHARE}) unless on (experiment, arm) {ARM_CACHING.expression} == 0")
ARM_UNCACHED = Query("arm_uncached_tokens_per_question", _UNCACHED)
ARM_FIRST_TOKEN = Query("arm_time_to_first_token_mean", _FIRST_TOKEN)
ARM_CALL = Query("arm_llm_call_mean", _CALL)
ARM_QUESTION = Query("arm_question_mean", _QUESTION)
UNCACHED_DELTA = Query("arm_uncached_tokens_delta", _above_lowest(_UNCACHED))
FIRST_TOKEN_DELTA = Query("arm_time_to_first_token_delta", _above_lowest(_FIRST_TOKEN))
CALL_DELTA = Query("arm_llm_call_delta", _above_lowest(_CALL))
QUESTION_DELTA = Query("arm_question_delta", _above_lowest(_QUESTION))

CACHING = Query("vllm_caching_by_arm", "min by (arm) (instance:vllm_prefix_caching_enabled:min{$scope})")
KV_PEAK = Query(
    "kv_usage_peak", "max by (arm) (max_over_time(instance:vllm_kv_cache_usage_ratio:max{$scope}[$__range]))"
)
WAITING_PEAK = Query(
    "requests_waiting_peak", "max by (arm) (max_over_time(instance:vllm_requests_waiting:sum{$scope}[$__range]))"
)
GPU_PEAK = Query(
    "gpu_memory_peak_ratio",
    # each GPU's own: a full small one beside an idle large one is full
    "max by (arm, gpu) (max_over_time(nvml_memory_used_bytes{$scope}[$__range])"
    " / max_over_time(nvml_memory_total_bytes{$scope}[$__range]))",
)
ALERTS_FIRED = Query("alerts_fired", 'count by (arm) (last_over_time(ALERTS{alertstate="firing",$watched}[$__range]))')

CALL_ERRORS = Query(
    "llm_errors_rate", "sum by (arm, reason) (rate(hop2rag_llm_errors_total{$scope}[$__rate_interval])) > 0"
)
REPAIRS = Query("json_repairs_rate", "sum by (arm) (rate(hop2rag_json_repairs_total{$scope}[$__rate_interval]))")
QUESTION_BUCKETS = Query(
    "question_duration_buckets",
    "sum by (le) (increase(hop2rag_question_duration_seconds_bucket{$scope}[$__rate_interval]))",
)
HOPS = Query(
    "hops_mean",
    "sum by (arm, type) (increase(hop2rag_hops_sum{$scope}[$__range]))"
    " / (sum by (arm, type) (increase(hop2rag_hops_count{$scope}[$__range])) > 0)",
)
FIRST_TOKEN_P50 = Query("vllm_ttft_p50", "max by (arm) (instance:vllm_time_to_first_token_seconds:p50_rate1m{$scope})")
FIRST_TOKEN_P95 = Query("vllm_ttft_p95", "max by (arm) (instance:vllm_time_to_first_token_seconds:p95_rate1m{$scope})")
TOKEN_P50 = Query(
    "vllm_token_latency_p50", "max by (arm) (instance:vllm_inter_token_latency_seconds:p50_rate1m{$scope})"
)
TOKEN_P95 = Query(
    "vllm_token_latency_p95", "max by (arm) (instance:vllm_inter_token_latency_seconds:p95_rate1m{$scope})"
)

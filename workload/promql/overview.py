"""Queries of the overview: the state of engine and agent, and the arms beside each other.

Totals are over all that is looked at (`$__range`) and divided afterwards: a mean of ratios over time is no ratio.
"""

from __future__ import annotations

from workload.promql.counts import count
from workload.promql.query import BASELINE, RATE_INTERVAL, Query

BY_ARM = "sum by (run, experiment, arm)"


def _total(metric: str, place: str = "$scope", matchers: str = "") -> str:
    return f"{BY_ARM} (increase({metric}{{{matchers}{place}}}[$__range]))"


def _answered(place: str = "$scope") -> str:
    return _total("hop2rag_questions_total", place, 'outcome="ok",')


def _mean(histogram: str, place: str = "$scope") -> str:
    sums, counts = (_total(f"{histogram}_{part}", place) for part in ("sum", "count"))
    return f"{sums} / ({counts} > 0)"


def _uncached(place: str = "$scope") -> str:
    prompt, cached = (_total(f"hop2rag_{kind}tokens_total", place) for kind in ("prompt_", "cached_prompt_"))
    # with caching off a server may report no cached tokens at all
    none = f"0 * {prompt} and on (run, experiment, arm) {_caching(place)} == 0"
    return f"({prompt} - ({cached} or {none})) / ({_answered(place)} > 0)"


def _caching(place: str = "$scope") -> str:
    enabled = f"instance:vllm_prefix_caching_enabled:min{{{place}}}"
    return f"min by (run, experiment, arm) (last_over_time({enabled}[$__range]))"


def _against_baseline(expression: str, baseline: str) -> str:
    """Return the signed change against the baseline of the same run and experiment, as a share of it."""
    return f"({expression}) / on (run, experiment) group_left () sum without (arm) (({baseline}) > 0) - 1"


def _failed_share(total: str) -> str:
    """Return the share of failed calls as the alert on their budget counts them."""
    failures = "hop2rag_llm_errors_total{%s$scope}[$__range]"
    failed = failures % 'reason!~"cancelled|context_too_long",'
    answered = "hop2rag_llm_call_duration_seconds_count{$scope}[$__range]"
    calls = f"{total}(increase({failures % ''})) + {total}(increase({answered}))"
    return f"{total}(increase({failed})) / ({calls} > 0)"


_HIT_SHARE = f"{_total('hop2rag_cached_prompt_tokens_total')} / ({_total('hop2rag_prompt_tokens_total')} > 0)"
_TIMES = {
    "time_to_first_token": "hop2rag_llm_time_to_first_token_seconds",
    "llm_call": "hop2rag_llm_call_duration_seconds",
    "question": "hop2rag_question_duration_seconds",
}


def _time(name: str) -> Query:
    return Query(f"arm_{name}_mean", _mean(_TIMES[name]))


def _delta(name: str) -> Query:
    return Query(f"arm_{name}_delta", _against_baseline(_mean(_TIMES[name]), _mean(_TIMES[name], BASELINE)))


ARM_CACHING = Query("arm_caching", _caching())
ARM_VERSION = Query(
    "arm_vllm_version", "max by (run, experiment, arm, version) (last_over_time(hop2rag_vllm_info{$scope}[$__range]))"
)
ARM_ANSWERED = Query(
    "arm_questions_answered", count("run, experiment, arm", 'hop2rag_questions_total{outcome="ok",$scope}')
)
# Where caching is off there is no share of hits: 0 % would be a cache that missed.
ARM_HIT_SHARE = Query("arm_hit_share", f"({_HIT_SHARE}) unless on (run, experiment, arm) {ARM_CACHING.expression} == 0")
ARM_UNCACHED = Query("arm_uncached_tokens_per_question", _uncached())
ARM_FIRST_TOKEN, ARM_CALL, ARM_QUESTION = (_time(name) for name in _TIMES)
UNCACHED_DELTA = Query("arm_uncached_tokens_delta", _against_baseline(_uncached(), _uncached(BASELINE)))
FIRST_TOKEN_DELTA, CALL_DELTA, QUESTION_DELTA = (_delta(name) for name in _TIMES)

# One value each, over all that is chosen and shown. A rate is over the time of the load, not over the time shown.
ANSWER_RATE = Query(
    "answers_per_second",
    'sum(increase(hop2rag_questions_total{outcome="ok",$scope}[$__range]))'
    " / (sum(increase(hop2rag_busy_seconds_total{$scope}[$__range])) > 0)",
)
QUESTION_P95 = Query(
    "question_p95",
    "histogram_quantile(0.95, sum by (le) (increase(hop2rag_question_duration_seconds_bucket{$scope}[$__range]))) >= 0",
)
FIRST_TOKEN_P95_SHOWN = Query(
    "first_token_p95",
    "histogram_quantile(0.95, sum by (le) "
    '(increase(vllm:time_to_first_token_seconds_bucket{job="vllm",$scope}[$__range]))) >= 0',
)
FAILED_CALLS = Query("failed_calls_share", _failed_share("sum"))
# The objectives: a first token within 2.5 s in 95 % of the requests, and 99 % of the calls without an error.
SLOW_BUDGET, FAILURE_BUDGET = 0.05, 0.01
SLOW_BURN = Query(
    "slow_first_tokens_burn",
    f"max by (arm) (instance:vllm_slow_first_tokens_per_requests:ratio_increase5m{{$scope}}) / {SLOW_BUDGET}",
)
FAILURE_BURN = Query(
    "failed_calls_burn",
    f"max by (arm) (instance:hop2rag_failed_calls_per_calls:ratio_increase5m{{$scope}}) / {FAILURE_BUDGET}",
)
SLOW_BUDGET_LEFT = Query(
    "slow_first_tokens_budget_left",
    '1 - (1 - sum by (arm) (increase(vllm:time_to_first_token_seconds_bucket{job="vllm",le="2.5",$scope}[$__range]))'
    ' / (sum by (arm) (increase(vllm:time_to_first_token_seconds_count{job="vllm",$scope}[$__range])) > 0))'
    f" / {SLOW_BUDGET}",
)
FAILURE_BUDGET_LEFT = Query("failed_calls_budget_left", f"1 - {_failed_share('sum by (arm) ')} / {FAILURE_BUDGET}")
KV_PEAK = Query(
    "kv_usage_peak",
    'max(max_over_time(vllm:kv_cache_usage_perc{job="vllm-fast",$scope}[$__range]))'
    " or max(max_over_time(instance:vllm_kv_cache_usage_ratio:max{$scope}[$__range]))",
)
WAITING_PEAK = Query(
    "requests_waiting_peak",
    'max(max_over_time(vllm:num_requests_waiting{job="vllm-fast",$scope}[$__range]))'
    " or max(max_over_time(instance:vllm_requests_waiting:sum{$scope}[$__range]))",
)
GPU_PEAK = Query(
    "gpu_memory_peak_ratio",
    # each GPU's own: a full small one beside an idle large one is full
    "max by (gpu) (max_over_time(nvml_memory_used_bytes{$scope}[$__range])"
    " / max_over_time(nvml_memory_total_bytes{$scope}[$__range]))",
)
ALERTS_FIRED = Query(
    "alerts_fired",
    "count(count by (alertname) "
    '(last_over_time(ALERTS{alertstate="firing",alertname!="Hop2RagWatchdog",$watched}[$__range])))',
)

CALL_ERRORS = Query(
    "llm_errors_rate", "sum by (arm, reason) (rate(hop2rag_llm_errors_total{$scope}[$__rate_interval])) > 0"
)
REPAIRS = Query("json_repairs_rate", "sum by (arm) (rate(hop2rag_json_repairs_total{$scope}[$__rate_interval]))")
QUESTION_BUCKETS = Query(
    "question_duration_buckets", count("le", "hop2rag_question_duration_seconds_bucket{$scope}", RATE_INTERVAL)
)
HOPS = Query(
    "hops_mean",
    "sum by (arm, type) (increase(hop2rag_hops_sum{$scope}[$__range]))"
    " / (sum by (arm, type) (increase(hop2rag_hops_count{$scope}[$__range])) > 0)",
)
FIRST_TOKEN_BUCKETS = Query(
    "vllm_ttft_buckets", count("le", 'vllm:time_to_first_token_seconds_bucket{job="vllm",$scope}', RATE_INTERVAL)
)
FIRST_TOKEN_COUNT = Query(
    "vllm_ttft_count", count("arm", 'vllm:time_to_first_token_seconds_count{job="vllm",$scope}', "1m")
)
FIRST_TOKEN_P50 = Query("vllm_ttft_p50", "max by (arm) (instance:vllm_time_to_first_token_seconds:p50_rate1m{$scope})")
FIRST_TOKEN_P95 = Query("vllm_ttft_p95", "max by (arm) (instance:vllm_time_to_first_token_seconds:p95_rate1m{$scope})")
TOKEN_P50 = Query(
    "vllm_token_latency_p50", "max by (arm) (instance:vllm_inter_token_latency_seconds:p50_rate1m{$scope})"
)
TOKEN_P95 = Query(
    "vllm_token_latency_p95", "max by (arm) (instance:vllm_inter_token_latency_seconds:p95_rate1m{$scope})"
)

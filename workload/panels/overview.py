"""Panels of the overview: the state of engine and agent in single values, the arms beside each other, what fails."""

from __future__ import annotations

from workload.panels.gpu_memory import GPU_HEALTH
from workload.panels.panel import SPARSE, Line, Panel
from workload.promql import overview as promql
from workload.promql.concurrency import DECODE_SECONDS, PREFILL_SECONDS

ALERT_LIST = "/alerting/list"
CACHING_WORDS = ((0.0, "caching off"), (1.0, "caching on"))

ANSWER_RATE = Panel(
    key="answers_per_second",
    title="Answers per second",
    why="Answered questions per second of load, over the time shown (hop2rag_questions_total, "
    "hop2rag_busy_seconds_total).",
    unit="reqps",
    lines=(Line(promql.ANSWER_RATE),),
    empty="no traffic",
    kind="stat",
    decimals=2,
)
QUESTION_P95 = Panel(
    key="question_p95",
    title="Question, P95",
    why="95 % of the answered questions took at most this long (hop2rag_question_duration_seconds), as fine as the "
    "buckets.",
    unit="s",
    lines=(Line(promql.QUESTION_P95),),
    empty="no traffic",
    kind="stat",
)
FIRST_TOKEN_P95 = Panel(
    key="first_token_p95",
    title="First token, P95",
    why="As the engine sees it (vllm:time_to_first_token_seconds). Red: the objective of 2.5 s is missed.",
    unit="s",
    lines=(Line(promql.FIRST_TOKEN_P95_SHOWN),),
    empty="no traffic",
    kind="stat",
    thresholds=((2.5, "red"),),
)
FAILED_CALLS = Panel(
    key="failed_calls",
    title="Failed LLM calls",
    why="Share of all calls of the agent over the time shown, without those that were cancelled or too long "
    "(hop2rag_llm_errors_total, hop2rag_llm_call_duration_seconds). The objective is 1 %.",
    unit="percentunit",
    lines=(Line(promql.FAILED_CALLS),),
    empty="no traffic",
    kind="stat",
    decimals=1,
    thresholds=((0.01, "orange"), (0.144, "red")),
)
WAITING_PEAK = Panel(
    key="requests_waiting_peak",
    title="Longest queue",
    why="Most requests that waited in one engine at a time (vllm:num_requests_waiting).",
    unit="short",
    lines=(Line(promql.WAITING_PEAK),),
    empty="no engine data",
    kind="stat",
    thresholds=((6, "orange"),),
)
KV_PEAK = Panel(
    key="kv_usage_peak",
    title="Fullest KV pool",
    why="Highest share of blocks in use (vllm:kv_cache_usage_perc); at 100 % requests wait or are preempted.",
    unit="percentunit",
    lines=(Line(promql.KV_PEAK),),
    empty="no engine data",
    kind="stat",
    decimals=1,
    thresholds=((0.8, "orange"), (0.95, "red")),
)
GPU_PEAK = Panel(
    key="gpu_memory_peak",
    title="Fullest GPU memory",
    why="Highest share of device memory in use (nvml_memory_used_bytes, nvml_memory_total_bytes); about 90 % is vLLM's "
    "own default.",
    unit="percentunit",
    lines=(Line(promql.GPU_PEAK, "GPU {{gpu}}"),),
    empty="no GPU data",
    kind="stat",
    decimals=1,
    thresholds=((0.95, "orange"), (0.98, "red")),
    links=((GPU_HEALTH, "To the health of each GPU"),),
)
ALERTS_FIRED = Panel(
    key="alerts_fired",
    title="Alerts that fired",
    why="Kinds of alerts over the time shown, of the chosen runs and of what belongs to no run (ALERTS).",
    unit="short",
    lines=(Line(promql.ALERTS_FIRED),),
    empty="none",
    kind="stat",
    thresholds=((1, "red"),),
    links=((ALERT_LIST, "To the alerts, each with its runbook"),),
)
ARMS = Panel(
    key="arms",
    title="The arms side by side, over the time shown",
    why="Totals over totals, so the times are means (hop2rag_*); computed are the prompt tokens per question that did "
    "not come from the cache. Exact figures with intervals are in the report.",
    unit="short",
    lines=(
        Line(promql.ARM_VERSION),
        Line(promql.ARM_CACHING, "caching", "none"),
        Line(promql.ARM_ANSWERED, "answered"),
        Line(promql.ARM_HIT_SHARE, "from cache", "percentunit"),
        Line(promql.ARM_UNCACHED, "computed"),
        Line(promql.ARM_FIRST_TOKEN, "first token", "s"),
        Line(promql.ARM_CALL, "LLM call", "s"),
        Line(promql.ARM_QUESTION, "question", "s"),
    ),
    empty="not reported",
    kind="table",
    words=CACHING_WORDS,
)
DELTAS = Panel(
    key="arm_deltas",
    title="Each arm against the baseline, unpaired",
    why="The same means divided by those of the arm chosen as `Baseline`, less one (hop2rag_*). Questions differ "
    "between arms unless the run paired them; whether a change is more than chance is in the report.",
    unit="percentunit",
    lines=(
        Line(promql.UNCACHED_DELTA, "computed"),
        Line(promql.FIRST_TOKEN_DELTA, "first token"),
        Line(promql.CALL_DELTA, "LLM call"),
        Line(promql.QUESTION_DELTA, "question"),
    ),
    empty="not reported",
    kind="table",
)
FIRST_TOKEN = Panel(
    key="first_token",
    title="Time to first token, over a minute",
    why="Queue and prefill as the engine sees them (vllm:time_to_first_token_seconds).",
    unit="s",
    lines=(Line(promql.FIRST_TOKEN_P50, "P50"), Line(promql.FIRST_TOKEN_P95, "P95")),
    empty="no traffic",
    thresholds=((2.5, "red"),),
)
FIRST_TOKEN_COUNT = Panel(
    key="first_token_count",
    title="First tokens behind the percentiles, over a minute",
    why="Requests that had their first token (vllm:time_to_first_token_seconds): of fewer than 20 the P95 is the "
    "slowest.",
    unit="short",
    lines=(Line(promql.FIRST_TOKEN_COUNT),),
    empty="no traffic",
)
FIRST_TOKEN_HEATMAP = Panel(
    key="first_token_heatmap",
    title="How long do first tokens take?",
    why="Requests by time to first token (vllm:time_to_first_token_seconds).",
    unit="s",
    lines=(Line(promql.FIRST_TOKEN_BUCKETS, "{{le}}"),),
    empty="no traffic",
    kind="heatmap",
    step=SPARSE,
)
BURN_RATE = Panel(
    key="burn_rate",
    title="Burn rate of the error budgets, over 5 minutes",
    why="At 1 the budget lasts exactly as long as the objective's period. Dashed: the bound of the page, which must be "
    "passed over an hour too.",
    unit="short",
    lines=(Line(promql.SLOW_BURN, "slow first tokens"), Line(promql.FAILURE_BURN, "failed calls")),
    empty="too few requests",
    thresholds=((14.4, "red"),),
)
BUDGET_LEFT = Panel(
    key="budget_left",
    title="Error budget that is left, over the time shown",
    why="Of 5 % of the requests with a first token after 2.5 s (vllm:time_to_first_token_seconds), and of 1 % of the "
    "calls that failed (hop2rag_llm_errors_total). Below zero the objective is missed.",
    unit="percentunit",
    lines=(Line(promql.SLOW_BUDGET_LEFT, "first tokens"), Line(promql.FAILURE_BUDGET_LEFT, "calls")),
    empty="no traffic",
    kind="bargauge",
    decimals=1,
)
TOKEN_LATENCY = Panel(
    key="token_latency",
    title="Time between two tokens, over a minute",
    why="Decode speed of one sequence (vllm:inter_token_latency_seconds); grows with batch and context.",
    unit="s",
    lines=(Line(promql.TOKEN_P50, "P50"), Line(promql.TOKEN_P95, "P95")),
    empty="no traffic",
)
ENGINE_PHASES = Panel(
    key="engine_phases",
    title="Prefill and decode of a request, mean over a minute",
    why="Prefill grows with uncached tokens, decode with the answer (vllm:request_prefill_time_seconds, "
    "vllm:request_decode_time_seconds).",
    unit="s",
    lines=(Line(PREFILL_SECONDS, "prefill"), Line(DECODE_SECONDS, "decode")),
    empty="no traffic",
)
QUESTION_HEATMAP = Panel(
    key="question_duration_heatmap",
    title="How long do questions take?",
    why="Answered questions by duration, from their intended start (hop2rag_question_duration_seconds).",
    unit="s",
    lines=(Line(promql.QUESTION_BUCKETS, "{{le}}"),),
    empty="no traffic",
    kind="heatmap",
    step=SPARSE,
)
HOPS = Panel(
    key="hops_by_type",
    title="Hops of a question, mean by type",
    why="Comparison questions ask for two things, bridge questions for a chain (hop2rag_hops).",
    unit="short",
    lines=(Line(promql.HOPS, "{{type}}"),),
    empty="no traffic",
    kind="bargauge",
)
FAILURES = Panel(
    key="failures",
    title="What fails?",
    why="LLM calls that failed, by reason, and replies that were not the JSON asked for (hop2rag_llm_errors_total, "
    "hop2rag_json_repairs_total).",
    unit="eps",
    lines=(Line(promql.CALL_ERRORS, "{{reason}}"), Line(promql.REPAIRS, "no JSON")),
    empty="no traffic",
    step=SPARSE,
)

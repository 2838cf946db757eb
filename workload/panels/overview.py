"""Panels of the overview: the state of engine and agent in single values, the arms beside each other, what fails."""

from __future__ import annotations

from workload.panels.panel import SPARSE, Line, Panel
from workload.promql import overview as promql
from workload.promql.concurrency import DECODE_SECONDS, PREFILL_SECONDS

CACHING_WORDS = ((0.0, "caching off"), (1.0, "caching on"))

CACHING = Panel(
    key="caching",
    title="Prefix caching",
    why="What the engine says of its own configuration (vllm:cache_config_info); with caching off it counts no hits.",
    unit="none",
    lines=(Line(promql.CACHING),),
    empty="no engine",
    kind="stat",
    words=CACHING_WORDS,
)
ANSWERED = Panel(
    key="arm_answered",
    title="Questions answered",
    why="Successes over the time shown (hop2rag_questions_total).",
    unit="short",
    lines=(Line(promql.ARM_ANSWERED),),
    empty="no traffic",
    kind="stat",
)
HIT_SHARE = Panel(
    key="arm_hit_share",
    title="From the cache",
    why="Cached over all prompt tokens of the time shown, as the server reports them with each reply; "
    "an arm without caching has none (hop2rag_cached_prompt_tokens_total, hop2rag_prompt_tokens_total).",
    unit="percentunit",
    lines=(Line(promql.ARM_HIT_SHARE),),
    empty="caching off, or no traffic",
    kind="stat",
)
KV_PEAK = Panel(
    key="kv_usage_peak",
    title="Fullest KV pool",
    why="Highest share of blocks in use (vllm:kv_cache_usage_perc); at 100 % requests wait or are preempted.",
    unit="percentunit",
    lines=(Line(promql.KV_PEAK),),
    empty="no engine",
    kind="stat",
    thresholds=((0.8, "orange"), (0.95, "red")),
)
GPU_PEAK = Panel(
    key="gpu_memory_peak",
    title="Fullest GPU memory",
    why="Highest share of device memory in use (nvml_memory_used_bytes, nvml_memory_total_bytes); about 90 % is vLLM's "
    "own default.",
    unit="percentunit",
    lines=(Line(promql.GPU_PEAK, "GPU {{gpu}}"),),
    empty="no GPU",
    kind="stat",
    thresholds=((0.95, "orange"), (0.98, "red")),
)
ALERTS_FIRED = Panel(
    key="alerts_fired",
    title="Alerts that fired",
    why="On the chosen runs, over the time shown (ALERTS); docs/runbooks says what to do about each.",
    unit="short",
    lines=(Line(promql.ALERTS_FIRED),),
    empty="none",
    kind="stat",
    thresholds=((1, "red"),),
)
ARMS = Panel(
    key="arms",
    title="The arms side by side, over the time shown",
    why="Totals over totals, so the times are means (hop2rag_*); computed are the prompt tokens that did not come from "
    "the cache. Exact figures with intervals are in the report.",
    unit="short",
    lines=(
        Line(promql.ARM_VERSION),
        Line(promql.ARM_CACHING, "caching", "none"),
        Line(promql.ARM_ANSWERED, "answered"),
        Line(promql.ARM_HIT_SHARE, "from cache", "percentunit"),
        Line(promql.ARM_UNCACHED, "computed/question"),
        Line(promql.ARM_FIRST_TOKEN, "first token", "s"),
        Line(promql.ARM_CALL, "LLM call", "s"),
        Line(promql.ARM_QUESTION, "question", "s"),
    ),
    empty="not told",
    kind="table",
    words=CACHING_WORDS,
)
DELTAS = Panel(
    key="arm_deltas",
    title="Each arm above the lowest of its experiment",
    why="The same means divided by the lowest arm's, less one (hop2rag_*); 0 % is the lowest arm itself. Questions "
    "differ between arms unless the run paired them.",
    unit="percentunit",
    lines=(
        Line(promql.UNCACHED_DELTA, "computed/question"),
        Line(promql.FIRST_TOKEN_DELTA, "first token"),
        Line(promql.CALL_DELTA, "LLM call"),
        Line(promql.QUESTION_DELTA, "question"),
    ),
    empty="not told",
    kind="table",
)
FIRST_TOKEN = Panel(
    key="first_token",
    title="Time to first token, over a minute",
    why="Queue and prefill as the engine sees them (vllm:time_to_first_token_seconds).",
    unit="s",
    lines=(Line(promql.FIRST_TOKEN_P50, "P50"), Line(promql.FIRST_TOKEN_P95, "P95")),
    empty="no traffic",
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

"""Panels of the prefix-caching comparison."""

from __future__ import annotations

from workload.panels.panel import Figure, Line, Panel
from workload.promql import vllm_metrics as promql

HIT_RATIO = Panel(
    key="prefix_cache_hit_ratio",
    title="Share of prompt tokens from the cache, over 10 s",
    why="Hits over queries, in tokens, over 10 s (vllm:prefix_cache_hits_total, vllm:prefix_cache_queries_total).",
    unit="percentunit",
    lines=(Line(promql.HIT_RATIO),),
    empty="no traffic, or caching off",
)
KV_USAGE = Panel(
    key="kv_cache_usage",
    title="KV cache pool in use, peak of each step",
    why="Blocks in use over blocks in the pool (vllm:kv_cache_usage_perc); blocks kept only for reuse count as free. "
    "Dashed: the bound of the alert.",
    unit="percentunit",
    lines=(Line(promql.KV_USAGE),),
    empty="no engine data",
    thresholds=((0.95, "red"),),
    is_gauge=True,
)
PROMPT_TOKENS = Panel(
    key="prompt_tokens",
    title="Prompt tokens, all and from the cache",
    why="Prompt tokens per second (vllm:prompt_tokens_total), and those of them that came from the cache.",
    unit="tokens/s",
    lines=(Line(promql.PROMPT_THROUGHPUT, "prompt"), Line(promql.CACHED_PROMPT_TOKENS, "from cache")),
)
GENERATION_TOKENS = Panel(
    key="generation_tokens",
    title="Generated tokens, over 10 s",
    why="Generated tokens per second (vllm:generation_tokens_total).",
    unit="tokens/s",
    lines=(Line(promql.GENERATION_THROUGHPUT),),
)
QUESTIONS = Panel(
    key="questions_answered",
    title="Questions answered so far",
    why="Questions that ended well (hop2rag_questions_total); the slope is the throughput. Neither "
    "failures nor the warm-up count.",
    unit="short",
    lines=(Line(promql.QUESTIONS_ANSWERED),),
    is_total=True,
)
REQUESTS = Panel(
    key="request_states",
    title="Requests in the engine, peak of each step",
    why="Requests in the engine's batch and in its queue (vllm:num_requests_running, vllm:num_requests_waiting). "
    "A queue above the dashed line that grows or stays has an alert.",
    unit="short",
    lines=(Line(promql.RUNNING, "running"), Line(promql.WAITING, "waiting")),
    empty="no engine data",
    thresholds=((5, "orange"),),
    is_gauge=True,
)
PREEMPTIONS = Panel(
    key="preemptions",
    title="Preemptions, over 10 s",
    why="Preemptions per second (vllm:num_preemptions_total); each one throws computed blocks away. Dashed: the least "
    "that the alert fires for.",
    unit="reqps",
    lines=(Line(promql.PREEMPTIONS),),
    thresholds=((0.2, "red"),),
)

CACHE_METRICS = Figure("cache_metrics.png", "How much does the prefix cache serve?", (HIT_RATIO, KV_USAGE))
THROUGHPUT = Figure(
    "throughput.png", "Does prefix caching make the engine faster?", (PROMPT_TOKENS, GENERATION_TOKENS, QUESTIONS)
)
REQUEST_STATES = Figure("request_states.png", "Do requests run, wait or get preempted?", (REQUESTS, PREEMPTIONS))
FIGURES = (CACHE_METRICS, THROUGHPUT, REQUEST_STATES)

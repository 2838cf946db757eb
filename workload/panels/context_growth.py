"""Panels of growing contexts."""

from __future__ import annotations

from workload.panels.panel import Line, Panel
from workload.panels.vllm_metrics import KV_USAGE, PREEMPTIONS, REQUESTS
from workload.promql import context_growth as promql

PROMPT_SIZE = Panel(
    key="prompt_size",
    title="Prompt of a call, mean over a minute",
    why="Tokens of a prompt (hop2rag_llm_call_prompt_tokens); what they cost depends on how many were cached.",
    unit="short",
    lines=(Line(promql.PROMPT_SIZE),),
)
FIRST_TOKEN = Panel(
    key="first_token_seconds",
    title="Time to the first token, mean over a minute",
    why="Queue and prefill (hop2rag_llm_time_to_first_token_seconds); grows with the tokens that were not cached.",
    unit="s",
    lines=(Line(promql.FIRST_TOKEN),),
)
FURTHER_TOKEN = Panel(
    key="further_token_seconds",
    title="Time of a further token, median over a minute",
    why="A step of decode (vllm:inter_token_latency_seconds); grows with the whole context, cached or not.",
    unit="s",
    lines=(Line(promql.FURTHER_TOKEN),),
)
ALL = (PROMPT_SIZE, FIRST_TOKEN, FURTHER_TOKEN, KV_USAGE, REQUESTS, PREEMPTIONS)

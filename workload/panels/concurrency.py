"""Panels of the load levels."""

from __future__ import annotations

from workload.panels.panel import Line, Panel
from workload.panels.vllm_metrics import KV_USAGE, PREEMPTIONS, REQUESTS
from workload.promql import concurrency as promql

IN_FLIGHT = Panel(
    key="questions_in_flight",
    title="Questions in flight",
    why="Visits of nodes that are running (hop2rag_node_active): each question in flight is in one node at a time.",
    unit="short",
    lines=(Line(promql.QUESTIONS_IN_FLIGHT),),
)
RATE = Panel(
    key="question_rate",
    title="Questions answered per second",
    why="Successes only (hop2rag_questions_total); a level that fails fast is no throughput.",
    unit="reqps",
    lines=(Line(promql.QUESTION_RATE),),
)
SECONDS = Panel(
    key="question_seconds",
    title="Time of a question, mean over a minute",
    why="Of answered ones, from the instant it was to be sent to its end (hop2rag_question_duration_seconds).",
    unit="s",
    lines=(Line(promql.QUESTION_SECONDS),),
)
QUEUE = Panel(
    key="queue_seconds",
    title="Time in the engine's queue, mean over a minute",
    why="Where latency starts to grow without work being done (vllm:request_queue_time_seconds).",
    unit="s",
    lines=(Line(promql.QUEUE_SECONDS),),
)
ALL = (IN_FLIGHT, RATE, SECONDS, REQUESTS, QUEUE, KV_USAGE, PREEMPTIONS)

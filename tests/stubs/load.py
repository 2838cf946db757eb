"""A load whose every millisecond is known: questions with their visits, stages and calls, and an engine's gauges.

One question of one hop takes 5.08 s: decompose 1.0 (prefill 0.25), embed 0.05, search 0.02, rerank 0.01, extract_clues
2.0 (prefill 0.5), decide 1.0 (prefill 0.25), generate 1.0 (prefill 0.4).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
import requests

from workload.record.bundle import Bundle
from workload.record.evidence import Evidence
from workload.record.journal import Journal
from workload.record.results import Measured, RunData
from workload.record.window import Window
from workload.services.prometheus import NoDataError, PrometheusClient, Sample, Series
from workload.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from workload.record.evidence import Retrieve
    from workload.record.results import Row

BLOCK_SIZE, BLOCKS, BLOCK_BYTES = 32, 101, 1000
PROMPT_TOKENS, COMPLETION_TOKENS = 100, 20
START = 1001.0
ENGINE_PID = 4711
HOP_SECONDS = 4.08
QUESTION_SECONDS = 5.08
# node, stages inside it, seconds, seconds to the first token
STEPS: tuple[tuple[str, str, float, float], ...] = (
    ("decompose", "", 1.0, 0.25),
    ("retrieve", "embed", 0.05, 0.0),
    ("retrieve", "search", 0.02, 0.0),
    ("grade", "rerank", 0.01, 0.0),
    ("accumulate", "", 0.0, 0.0),
    ("extract_clues", "", 2.0, 0.5),
    ("decide", "", 1.0, 0.25),
)
END_STEP = ("generate", "", 1.0, 0.4)


@dataclass
class Rows:
    """The rows of a load."""

    questions: list[Row] = field(default_factory=list)
    calls: list[Row] = field(default_factory=list)
    visits: list[Row] = field(default_factory=list)
    stages: list[Row] = field(default_factory=list)

    def ask(self, worker: str = "0", start: float = START, hops: int = 1, **parts: Any) -> Row:
        """Add a question that begins at `start` and return its row."""
        number = len(self.questions) + 1
        place = {"arm": "base", "block": 0, "phase": "c1", "segment": 0, "worker": worker, "question_id": f"q{number}"}
        at = start
        for hop in range(1, hops + 1):
            for step in (*STEPS, *((END_STEP,) if hop == hops else ())):
                at = self._step(step, {"question": number, "hop": hop, "is_windowed": True, **place}, at)
        row = {
            "id": number,
            "outcome": "ok",
            "hops": hops,
            "intended_at": start,
            "started_at": start,
            "duration_seconds": at - start,
            "trajectory": None,
            **dict.fromkeys(("answer_em", "answer_f1", "facts_em", "facts_f1", "joint_f1"), 0.5),
            **place,
            **parts,
        }
        self.questions.append(row)
        return row

    def _step(self, step: tuple[str, str, float, float], place: Row, at: float) -> float:
        node, stage, seconds, prefill = step
        row = {**place, "started_at": at, "duration_seconds": seconds, "outcome": "ok"}
        if stage:
            self.stages.append({**row, "stage": stage})
        if stage == "search":  # the visit of `retrieve` has two stages
            self.visits[-1]["duration_seconds"] += seconds
        else:
            self.visits.append({**row, "node": node})
        if prefill:
            tokens = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": COMPLETION_TOKENS}
            self.calls.append({**row, "id": len(self.calls) + 1, "node": node, "ttft_seconds": prefill, **tokens})
        return at + seconds

    @property
    def end(self) -> float:
        """When the last question ended."""
        return max(float(row["intended_at"] + row["duration_seconds"]) for row in self.questions)


def engine_lines(rows: Rows, step: float = 0.1) -> dict[str, Series]:
    """Return what a vLLM with these calls shows when scraped every `step` seconds, one call at a time.

    As the real one it shows the state after its last step: nothing of a call before its first token.
    """
    times = np.arange(START - 0.95, rows.end + 1, step)
    blocks, generated, running = np.zeros(len(times)), np.zeros(len(times)), np.zeros(len(times))
    for call in rows.calls:
        first, end = call["started_at"] + call["ttft_seconds"], call["started_at"] + call["duration_seconds"]
        rate = call["completion_tokens"] / (end - first)
        for place, now in enumerate(times):
            if first <= now < end:
                made = int((now - first) * rate) + 1
                # the token that was made last is not in the cache yet
                blocks[place] = ceil((call["prompt_tokens"] + made - 1) / BLOCK_SIZE)
                generated[place] += made
                running[place] += 1
            elif now >= end:
                generated[place] += call["completion_tokens"]
    return {
        "vllm:kv_cache_usage_perc": Series({}, times, blocks / (BLOCKS - 1)),
        "vllm:generation_tokens_total": Series({}, times, 1000 + generated),
        "vllm:num_requests_running": Series({}, times, running),
    }


class StoredSeries(PrometheusClient):
    """A Prometheus that knows series and increases by metric name, whatever their labels."""

    def __init__(
        self, series: Mapping[str, Series | Sequence[Series]], increases: Mapping[str, Mapping[str, float]]
    ) -> None:
        super().__init__("http://prometheus.invalid", requests.Session())
        self.series, self.grown = dict(series), increases

    def raw(self, selector: str, start: float, end: float) -> list[Series]:
        """Return the samples of a metric between two instants."""
        found = self.series.get(selector.partition("{")[0])
        if found is None:
            raise NoDataError(selector, (start, end))
        every = [found] if isinstance(found, Series) else found
        spans = [(one.times >= start) & (one.times <= end) for one in every]
        return [
            Series(one.labels, one.times[inside], one.values[inside]) for one, inside in zip(every, spans, strict=True)
        ]

    def query_range(self, promql: str, start: float, end: float, step: float) -> list[Series]:  # noqa: ARG002
        """Return nothing: no panel has data."""
        raise NoDataError(promql, (start, end))

    def counter_deltas(self, selector: str, start: float, end: float) -> list[Sample]:
        """Return the increases of a metric; the key of each is the value of all its labels."""
        grown = self.grown.get(selector.partition("{")[0])
        if grown is None:
            raise NoDataError(selector, (start, end))
        return [Sample(dict.fromkeys(("activity", "gpu", "role"), key), end, value) for key, value in grown.items()]


def run_of(
    rows: Rows,
    folder: Path,
    *,
    series: Mapping[str, Series | Sequence[Series]] | None = None,
    increases: Mapping[str, Mapping[str, float]] | None = None,
    pids_by_gpu: Mapping[str, Sequence[int]] | None = None,
    retrieve: Retrieve | None = None,
    replies: Sequence[str] | None = None,
) -> RunData:
    """Return a run of one load in a bundle under `folder`; with `replies` its calls' texts are on record.

    The engine's process is `ENGINE_PID`; `pids_by_gpu` lists the processes that have memory on each GPU.
    """
    bundle = Bundle(folder, "20250131-235959-x")
    settings = Settings.of({"limit": 1, "max_hops": 3, "k": 10})
    with Journal(bundle.journal, {}) as journal:
        for row, reply in zip(rows.calls, replies or (), strict=False):
            messages = json.dumps([{"role": "user", "content": "Question: Who?\n\nClues:"}])
            text = {"call": row["id"], "messages": messages, "reply": reply, "prompt_ids": b"", "output_ids": b""}
            journal.insert("call_text", text)
    at = np.array([START])
    in_use = [
        Series({"gpu": gpu, "pid": str(pid)}, at, np.ones(1))
        for gpu, pids in (pids_by_gpu or {}).items()
        for pid in pids
    ]
    processes = {"nvml_process_memory_bytes": in_use} if in_use else {}
    client = StoredSeries(engine_lines(rows) | processes | dict(series or {}), increases or {})
    window = Window(arm="base", block=0, point="c1", segment=0, start=START - 1, end=rows.end + 1)
    engine = {
        "block_size": BLOCK_SIZE,
        "num_gpu_blocks": BLOCKS,
        "kv_pool_bytes": BLOCKS * BLOCK_BYTES,
        "kv_block_bytes": BLOCK_BYTES,
        "version": "0.32.0",
        "model": "stub",
        "pids": [ENGINE_PID - 1, ENGINE_PID],
    }
    measured = Measured(window, engine, {}, {"sent": len(rows.questions)})
    evidence = Evidence(client, "x", bundle, settings, retrieve)
    return RunData(
        measured=[measured],
        questions=rows.questions,
        calls=rows.calls,
        visits=rows.visits,
        stages=rows.stages,
        evidence=evidence,
    )

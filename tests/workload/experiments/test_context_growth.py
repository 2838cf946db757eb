"""Experiment 5 from rows to words and pictures, on a sweep with a planted curvature."""

from __future__ import annotations

import json
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from tests.stubs.drawing import drawing_of
from tests.stubs.run import call, measured, question, run_of
from workload.engine.profile import PROFILES
from workload.experiments.context_growth import (
    AGENT,
    CONTEXT_GROWTH,
    LENGTHS,
    SWEEP,
    headline,
    read_config,
    reduce,
    sweep_points,
    verdicts,
)
from workload.promql.concurrency import PREEMPTIONS
from workload.promql.gpu_memory import KV_USAGE_NAMES, RESIDENT
from workload.services.prometheus import Series
from workload.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from workload.record.evidence import Evidence
    from workload.record.results import Measured, Row, RunData
    from workload.record.window import Window

FILES = ("context_vs_latency.png", "context_vs_memory.png", "token_accumulation.png")
BLOCK, BLOCKS, BYTES = 32, 1000, 23_040
SMOLLM2 = {
    "num_hidden_layers": 30,
    "hidden_size": 576,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
    "dtype": "bfloat16",
}


class Stored:
    """What Prometheus kept: for each call of the sweep the blocks that it uses while it decodes."""

    def __init__(self, calls: list[Row], preempted_at: float | None) -> None:
        times = np.array([row["started_at"] + row["duration_seconds"] - 0.1 for row in calls])
        tokens = [row["prompt_tokens"] + row["completion_tokens"] - 1 for row in calls]
        usage = np.array([ceil(length / BLOCK) / (BLOCKS - 1) for length in tokens])
        rises = np.zeros(len(times)) if preempted_at is None else (times >= preempted_at).astype(float)
        self.lines = {KV_USAGE_NAMES[0]: usage, RESIDENT: np.full(len(times), 1.5e9), PREEMPTIONS: rises}
        self.times = times

    def stored(self, metric: str, _: Window, **__: str) -> list[Series]:
        """Return the samples of a metric."""
        return [Series({}, self.times, self.lines[metric])] if metric in self.lines else []

    def gpu_samples(self, _: Measured) -> dict[str, Any]:
        """Return nothing: there is no GPU."""
        return {}


def run(folder: Path, *, preempted_at: float | None = None) -> RunData:
    """Return an agent's run of five questions and three rounds of a sweep, whose prefill is as the config expects."""
    (folder / "config.json").write_text(json.dumps(SMOLLM2))
    chance = np.random.default_rng(0)
    engine = {
        "model_path": str(folder),
        "block_size": BLOCK,
        "num_gpu_blocks": BLOCKS,
        "kv_block_bytes": float(BYTES * BLOCK),
        "max_model_len": 8192,
    }
    windows = [replace(measured(arm.name), engine=engine) for arm in (AGENT, SWEEP)]
    place = {"block": 0, "phase": "c1", "segment": 0, "completion_tokens": 32, "reason": None}
    swept, at = [], 1000.0
    for tokens in np.tile(LENGTHS[:-1], 3).tolist():
        relative = tokens / 8192
        first = float((0.02 + 4 * relative * (1 + 1.33 * relative)) * (1 + 0.005 * chance.standard_normal()))
        times = {"started_at": at, "ttft_seconds": first, "duration_seconds": first + 31 * (0.02 + 1e-6 * tokens)}
        swept.append(call(100, SWEEP.name, prompt_tokens=tokens, cached_tokens=0, **times) | place)
        at += times["duration_seconds"] + 1.0
    refused = call(101, SWEEP.name, outcome="failed", prompt_tokens=None) | place | {"reason": "context_too_long"}
    questions = [question(number, AGENT.name, question_id=f"q{number}") for number in range(5)]
    agent = [
        call(number, AGENT.name, hop=hop, node=node, prompt_tokens=120 + 200 * hop + 9 * number) | place
        for number in range(5)
        for hop in (1, 2)
        for node in ("decompose", "extract_clues", "decide")
    ]
    data = run_of(windows, [*agent, *swept, refused], questions)
    return replace(data, evidence=cast("Evidence", Stored(swept, preempted_at)))


def summarise(data: RunData) -> dict[str, Any]:
    """Return the summary as a run completes it, having been through JSON."""
    return dict(json.loads(json.dumps(reduce(data), allow_nan=False)))


def test_the_planted_growth_is_found(tmp_path: Path) -> None:
    """Prefill and decode apart, each with its shape, its share and interval, and what the config expected."""
    summary = summarise(run(tmp_path))
    prefill, decode = summary["prefill"]["sweep"], summary["decode"]["sweep"]
    assert prefill["shape"] == "quadratic"
    assert prefill["quadratic_share_ci"][0] < 1.33 * 7680 / 8192 < prefill["quadratic_share_ci"][1]
    assert prefill["expected_quadratic_share"] == pytest.approx(1.33 * 7680 / 8192, rel=0.01)
    assert prefill["power"] > 0.9
    assert decode["shape"] == "linear"
    assert summary["kv"]["is_within"] is True
    assert summary["kv"]["slope_bytes_per_token"] == pytest.approx(BYTES, rel=0.02)
    assert summary["tokens_a_question"]["n"] == 5


def test_one_fit_over_whole_calls_would_miss_it(tmp_path: Path) -> None:
    """The wrong way, for comparison: seconds of the whole call over all tokens mixes two laws and their noise."""
    data = run(tmp_path)
    swept = [row for row in data.calls if row["arm"] == SWEEP.name and row["outcome"] == "ok"]
    tokens = np.array([row["prompt_tokens"] + row["completion_tokens"] for row in swept], dtype=float)
    whole = np.array([row["duration_seconds"] for row in swept])
    curve, slope, _ = np.polyfit(tokens, whole, 2)
    right = summarise(data)["prefill"]["sweep"]["quadratic_share"]
    assert abs(curve * tokens.max() / slope - right) > 0.02


def test_walls_are_named_by_their_cause(tmp_path: Path) -> None:
    """A threshold that no hardware can trip finds nothing; a 400 and a preemption are met where they stand."""
    found = {wall["cause"]: wall for wall in summarise(run(tmp_path, preempted_at=1050.0))["walls"]}
    assert found["max_model_len"]["tokens"] == 8192
    assert found["preemption"]["tokens"] >= 512
    assert set(summarise(run(tmp_path))["walls"][0]) == {"cause", "tokens", "calls"}


def test_words_are_of_the_numbers(tmp_path: Path) -> None:
    """Linear or superlinear, the expectation with it, the KV cache's three measurements, the walls."""
    summary = summarise(run(tmp_path))
    reported = "\n".join(verdicts(summary))
    for words in (
        "superlinear: n²",
        "predicts 125.0%",
        "agree within 2 %",
        "max_model_len at 8,192 tokens",
    ):
        assert words in reported
    assert all(len(row) == len(CONTEXT_GROWTH.columns) for row in headline(summary))


def test_pictures_come_from_the_summary_and_leave_it_alone(tmp_path: Path) -> None:
    """`--no-figures` writes the same JSON, so drawing may add nothing to it."""
    data = run(tmp_path)
    summary = summarise(data)
    before = json.dumps(summary)
    paths = CONTEXT_GROWTH.draw(drawing_of(CONTEXT_GROWTH, data, summary, tmp_path))
    assert [path.name for path in paths] == list(FILES)
    assert all(path.stat().st_size > 20_000 for path in paths)
    assert json.dumps(summary) == before


@pytest.mark.usefixtures("laid_out")
def test_a_run_without_a_sweep_is_reported_and_drawn(tmp_path: Path) -> None:
    """Two questions and a dead engine in the second arm: nothing can be fitted, and that is what is said."""
    data = run(tmp_path)
    few = replace(data, calls=[row for row in data.calls if row["arm"] == AGENT.name][:2], evidence=None)
    summary = summarise(few)
    reported = "\n".join(verdicts(summary))
    assert "not known (0 calls of 0 lengths)" in reported
    assert "not confirmed" in reported
    assert len(CONTEXT_GROWTH.draw(drawing_of(CONTEXT_GROWTH, few, summary, tmp_path))) == 3
    assert headline(summary)


def test_a_pool_that_is_not_reported_confirms_no_bytes(tmp_path: Path) -> None:
    """On a GPU vLLM 0.22 reports blocks alone: to multiply them by the config's bytes proves nothing about bytes."""
    summary = summarise(run(tmp_path))
    summary["kv"] |= {"pool_is_told": False, "capacity_bytes_per_token": None, "is_within": None}
    reported = "\n".join(verdicts(summary))
    assert "not report its pool's bytes" in reported
    assert "calls of 50 blocks" not in reported


def settings_of(**flags: Any) -> Any:
    """Return what is asked."""
    return load_settings({"limit": 20, "max_hops": 5, "k": 10} | flags, {}).load


def test_the_sweep_goes_up_and_down_and_beyond_the_limit() -> None:
    """A machine that warms up during a rising sweep looks superlinear; a refused length shows the wall."""
    (point,) = sweep_points(settings_of())
    rounds = np.array(point.contexts).reshape(3, len(LENGTHS))
    assert rounds[0].tolist() == rounds[2].tolist() == list(LENGTHS)
    assert rounds[1].tolist() == list(reversed(LENGTHS))
    assert LENGTHS[-2] < PROFILES[SWEEP.profile].max_model_len < LENGTHS[-1]  # type: ignore[operator]
    assert sweep_points(settings_of(limit=3, contexts=[512, 64]))[0].contexts == (64, 512)


def test_the_sweep_is_no_side_of_a_comparison() -> None:
    """ABBA would start four engines for two arms that are never compared; the sweep runs once, with caching off."""
    assert [arm.name for arm in CONTEXT_GROWTH.arms_in_order("ABBA")] == ["context-8192", "sweep"]
    assert [point.name for point in CONTEXT_GROWTH.points_of(AGENT, settings_of())] == ["c1"]
    assert [point.name for point in CONTEXT_GROWTH.points_of(SWEEP, settings_of())] == ["sweep"]
    assert PROFILES[SWEEP.profile].prefix_caching is False
    assert PROFILES[AGENT.profile].prefix_caching is None


@pytest.mark.parametrize("path", [None, "someone/a-model", "/nowhere"])
def test_a_model_that_is_not_here_has_no_config(path: str | None) -> None:
    """A served name from a registry names no folder; the experiment then expects nothing."""
    assert read_config(path) == {}

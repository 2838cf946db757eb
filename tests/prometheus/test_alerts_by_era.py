"""The engine's alerts on every era of vLLM: whatever its metrics are called, trouble is seen and health is not.

The series are those of the expositions in fixtures/vllm_eras; the test sets their values.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from workload.paths import asset
from workload.promql.selectors import selector

if TYPE_CHECKING:
    from collections.abc import Callable

ERAS = sorted((Path(__file__).parents[1] / "fixtures" / "vllm_eras").glob("*.prom"))
TARGET = {"job": "vllm", "instance": "h:8000", "run": "r", "experiment": "e", "arm": "a"}
STEPS = 160

TROUBLE = {
    "vllm:num_requests_running": "8",
    "vllm:num_requests_waiting": "0+1",
    "vllm:kv_cache_usage_perc": "0.99",
    "vllm:gpu_cache_usage_perc": "0.99",
    "vllm:num_preemptions_total": "0+2",
    "vllm:request_success_total": "0",
    "vllm:prompt_tokens_total": "1000",
    "vllm:generation_tokens_total": "1000",
    "vllm:time_to_first_token_seconds_count": "0+1",
    "vllm:time_to_first_token_seconds_bucket": "0",
}
HEALTH = TROUBLE | {
    "vllm:num_requests_waiting": "2",
    "vllm:kv_cache_usage_perc": "0.5",
    "vllm:gpu_cache_usage_perc": "0.5",
    "vllm:num_preemptions_total": "0",
    "vllm:request_success_total": "0+1",
    "vllm:prompt_tokens_total": "0+100",
    "vllm:generation_tokens_total": "0+10",
    "vllm:time_to_first_token_seconds_bucket": "0+1",
}
FIRING = ("VllmHung", "VllmQueueGrowing", "VllmKvCacheNearlyFull", "VllmPreemptionStorm", "VllmTtftBudgetBurn")


def firing(era: Path, values: dict[str, str], promtool: Callable[..., str], tmp_path: Path, expected: set[str]) -> None:
    """Fail unless exactly `expected` fire after two and a half minutes of these values."""
    series = [{"series": selector("up", TARGET), "values": f"1x{STEPS}"}]
    for family in text_string_to_metric_families(era.read_text()):
        series += [
            {"series": selector(sample.name, sample.labels | TARGET), "values": f"{values[sample.name]}x{STEPS}"}
            for sample in family.samples
            if sample.name in values
        ]
    test = {
        "interval": "1s",
        "input_series": series,
        "promql_expr_test": [
            {
                "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": "150s",
                "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(expected)],
            }
        ],
    }
    rules = [
        str(asset(f"prometheus/{file}.yml")) for file in ("rules/vllm", "alerts/vllm", "alerts/slo", "alerts/exporter")
    ]
    file = tmp_path / "test.yml"
    file.write_text(json.dumps({"rule_files": rules, "evaluation_interval": "5s", "tests": [test]}))
    promtool("test", "rules", file)


@pytest.mark.prometheus
@pytest.mark.parametrize("era", ERAS, ids=lambda era: era.stem)
def test_trouble_is_seen_in_every_release(era: Path, promtool: Callable[..., str], tmp_path: Path) -> None:
    """A rule on a name of one release is silent on all others, and nobody notices until it was needed."""
    firing(era, TROUBLE, promtool, tmp_path, set(FIRING))


@pytest.mark.prometheus
@pytest.mark.parametrize("era", ERAS, ids=lambda era: era.stem)
def test_health_is_silent_in_every_release(era: Path, promtool: Callable[..., str], tmp_path: Path) -> None:
    """Nor may any release look ill, or blind, for what it does not show."""
    firing(era, HEALTH, promtool, tmp_path, set())

"""Panels of arms that differ in what they report: caching off, a run of seconds, an alert that belongs to no run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from workload.promql.activity import NODE_SHARE, OVERLAP_SECONDS
from workload.promql.annotations import RUNS
from workload.promql.latency import DONE
from workload.promql.overview import ALERTS_FIRED, FAILED_CALLS, FIRST_TOKEN_BUCKETS
from workload.promql.prompts import HITS_BY_NODE, LOST

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

ON, OFF = ('arm="prefix-on",node="decide"', 'arm="prefix-off",node="decide"')
# With caching off vLLM 0.22 reports no cached tokens, and vLLM 0.32 reports none as 0.
SILENT = {
    f"hop2rag_prompt_tokens_total{{{ON}}}": "0+20x60",
    f"hop2rag_prompt_tokens_total{{{OFF}}}": "0+20x60",
    f"hop2rag_reusable_prompt_tokens_total{{{ON}}}": "0+10x60",
    f"hop2rag_reusable_prompt_tokens_total{{{OFF}}}": "0+10x60",
    f"hop2rag_cached_prompt_tokens_total{{{ON}}}": "0+4x60",
    'instance:vllm_prefix_caching_enabled:min{arm="prefix-on"}': "1x60",
    'instance:vllm_prefix_caching_enabled:min{arm="prefix-off"}': "0x60",
}
ZERO = SILENT | {f"hop2rag_cached_prompt_tokens_total{{{OFF}}}": "0x60"}
LOST_BY_ARM = {f"{{{ON}}}": 6, f"{{{OFF}}}": 10}
CASES = {
    "W8 all reuse is lost with caching off": (SILENT, LOST.scoped({}, 1.0), LOST_BY_ARM),
    "W8 and if the server reports 0": (ZERO, LOST.scoped({}, 1.0), LOST_BY_ARM),
    "W9 caching off has no share of hits": (SILENT, HITS_BY_NODE.scoped({}, 1.0, range_seconds=50), {f"{{{ON}}}": 0.2}),
    "W9 and none of 0 %": (ZERO, HITS_BY_NODE.scoped({}, 1.0, range_seconds=50), {f"{{{ON}}}": 0.2}),
    "W10 a run of ten seconds": (
        {'hop2rag_node_active{arm="base",node="generate"}': "_x50 1x9"},
        NODE_SHARE.scoped({}, 1.0),
        {'{node="generate"}': 1},
    ),
    "a call that was cancelled spends no budget": (
        {
            'hop2rag_llm_errors_total{reason="cancelled"}': "0+7x60",
            'hop2rag_llm_errors_total{reason="timeout"}': "0+1x60",
            "hop2rag_llm_call_duration_seconds_count": "0+56x60",
        },
        FAILED_CALLS.scoped({}, 1.0, range_seconds=50),
        {"{}": 1 / 64},
    ),
    # increase() makes 9 of the first and 8.3 s of the second
    "a count of a short run": (
        {'hop2rag_questions_total{arm="base",termination="done"}': "_x10 0x1 1+1x7 8x2"},
        DONE.scoped({}, 1.0, range_seconds=50),
        {'{arm="base"}': 8},
    ),
    "seconds of a short run": (
        {'hop2rag_busy_seconds_total{activity="both",arm="base"}': "_x48 1+0.75x10"},
        OVERLAP_SECONDS.scoped({}, 1.0, range_seconds=50),
        {'{activity="both",arm="base"}': 7.5},
    ),
    "a count of an agent that began again": (
        {'hop2rag_questions_total{arm="base",termination="done"}': "0+1x29 0+1x29"},
        DONE.scoped({}, 1.0, range_seconds=59),
        {'{arm="base"}': 58},
    ),
    "a heatmap counts what came in a step": (
        {'vllm:time_to_first_token_seconds_bucket{job="vllm",le="0.1"}': "0+2x60"},
        FIRST_TOKEN_BUCKETS.scoped({}, 5.0),
        {'{le="0.1"}': 10},
    ),
    "between runs the engine is live, which is no newest run": (
        {'up{run="20261201-000000-latency"}': "1x60", 'up{run="live"}': "1x60", "up{}": "1x60"},
        RUNS.removeprefix("query_result(").removesuffix(")").replace("$__range", "1m"),
        {
            f'{{run="{run}",text="{text}"}}': 1
            for run, text in (("20261201-000000-latency",) * 2, ("live", "(live)"), (".*", "(all runs)"))
        },
    ),
    "W13 an alert of no run": (
        {'ALERTS{alertname="DiskWritesFailing",alertstate="firing"}': "1x60"},
        ALERTS_FIRED.grafana().replace("$__range", "1m").replace("$run", "r1").replace("$experiment", "latency"),
        {"{}": 1},
    ),
}


@pytest.mark.prometheus
@pytest.mark.parametrize(("series", "promql", "expected"), CASES.values(), ids=CASES)
def test_an_arm_is_shown_as_it_was(
    series: Mapping[str, str], promql: str, expected: Mapping[str, float], promtool: Callable[..., str], tmp_path: Path
) -> None:
    """Nothing lost where all was, 0 % where nothing was measured, and calm on a full disk all look like data."""
    asked = {
        "expr": promql,
        "eval_time": "59500ms",  # scrapes are never at the edge of a window, which Prometheus 3 leaves out
        "exp_samples": [{"labels": labels, "value": value} for labels, value in expected.items()],
    }
    written = [{"series": name, "values": values} for name, values in series.items()]
    file = tmp_path / "test.yml"
    test = {"interval": "1s", "input_series": written, "promql_expr_test": [asked]}
    file.write_text(yaml.safe_dump({"evaluation_interval": "1s", "tests": [test]}))
    promtool("test", "rules", file)

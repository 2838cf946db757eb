"""The recording rules on every era of vLLM: the same engine gives the same numbers under the same names.

The series come from expositions, recorded ones and (before 0.11, which does not run here) ones written from the table
of names. Their values are set by the test, so that each recorded rate is a round number.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.prometheus.labelling import OF_KUBERNETES
from workload.promql.selectors import selector

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Expected = dict[str, dict[str, float]]
    RuleTest = Callable[[Mapping[str, str], Expected], None]

ERAS = sorted((Path(__file__).parents[1] / "fixtures" / "vllm_eras").glob("*.prom"))
TARGET = {"instance": "h:8000", "run": "r", "experiment": "e", "arm": "a"}
# As in a Prometheus operator's stack, and a server that its user added without a word about it.
LABELLED = {"in Kubernetes": TARGET | OF_KUBERNETES | {"phase": "measured"}, "bare": {"instance": "h:8000"}}
STEPS = 80

LEVELS = {
    "vllm:num_requests_running": "3",
    "vllm:num_requests_waiting": "2",
    "vllm:kv_cache_usage_perc": "0.5",
    "vllm:gpu_cache_usage_perc": "0.5",
    "vllm:gpu_prefix_cache_hit_rate": "0.25",
    "vllm:cache_config_info": "1",
}
GROWTH_PER_SECOND = {
    "vllm:prefix_cache_queries_total": 40,
    "vllm:gpu_prefix_cache_queries_total": 40,
    "vllm:prefix_cache_hits_total": 10,
    "vllm:gpu_prefix_cache_hits_total": 10,
    "vllm:prompt_tokens_total": 40,
    "vllm:generation_tokens_total": 8,
    "vllm:num_preemptions_total": 2,
    "vllm:request_success_total": 4,
}
THOUSANDTHS = {
    "instance:vllm_requests_running:sum": 3000,
    "instance:vllm_requests_waiting:sum": 2000,
    "instance:vllm_kv_cache_usage_ratio:max": 500,
    "instance:vllm_kv_cache_usage_ratio:avg": 500,
    "instance:vllm_preemptions:rate10s": 2000,
    "instance:vllm_prompt_tokens:rate10s": 40_000,
    "instance:vllm_generation_tokens:rate10s": 8000,
    "instance:vllm_prefix_cache_queries:rate10s": 40_000,
    "instance:vllm_prefix_cache_hits:rate10s": 10_000,
    'instance:vllm_requests_finished:rate10s{finished_reason="stop"}': 4000,
}
LATENCIES = (
    "time_to_first_token",
    "inter_token_latency",
    "e2e_request_latency",
    "request_queue_time",
    "request_prefill_time",
    "request_decode_time",
)
# All observations lie in the bucket from 2.5 s to 5 s, which every release has.
QUANTILE_THOUSANDTHS = {"p50": 3750, "p95": 4875, "p99": 4975}
QUERIED = {f"instance:vllm_prefix_cache_{kind}:rate10s" for kind in ("queries", "hits")}
HIT_RATIO = "instance:vllm_prefix_cache_hits_per_queries:ratio_rate10s"
ENABLED = "instance:vllm_prefix_caching_enabled:min"


def values_of(name: str, labels: Mapping[str, str]) -> str | None:
    """Return the values the test gives to a series, in promtool's notation; None for one that no rule reads."""
    if name in LEVELS:
        return f"{LEVELS[name]}x{STEPS}"
    if name.startswith("vllm:") and name.endswith(("_seconds_bucket", "time_in_queue_requests_bucket")):
        return f"0+6x{STEPS}" if float(labels["le"]) >= 5 else f"0x{STEPS}"
    if name in GROWTH_PER_SECOND:
        return f"0+{GROWTH_PER_SECOND[name]}x{STEPS}"
    return None


def series_of(era: Path, target: Mapping[str, str] = TARGET, **override: str) -> dict[str, str]:
    """Return an exposition's series with values, scraped by both jobs; `override` sets label values."""
    series = {selector("up", {**target, "job": "vllm"}): f"1x{STEPS}"}
    for family in text_string_to_metric_families(era.read_text()):
        for sample in family.samples:
            labels = sample.labels | {key: value for key, value in override.items() if key in sample.labels}
            if values := values_of(sample.name, labels):
                for job in ("vllm", "vllm-fast"):
                    series[selector(sample.name, {**labels, **target, "job": job})] = values
    return series


def expected_of(era: Path, factor: int = 1, target: Mapping[str, str] = TARGET) -> Expected:
    """Return what the rules must record for an era with caching on; sums and rates are `factor` times those of one."""
    model = "m" if "written" in era.name else "Qwen2.5-7B-shape" if "0.22.1" in era.name else "smollm2-135m"
    target = {**target, "job": "vllm"}
    everything = target | {"model_name": model}
    expected: Expected = {}
    counts_queries = "prefix_cache_queries" in era.read_text()
    for record, value in THOUSANDTHS.items():
        if "_prefix_cache_" in record and not counts_queries:
            continue
        reason = {"finished_reason": "stop"} if "finished" in record else {}
        ratio = "_ratio:" in record
        expected[record] = {braces(everything | reason): value if ratio else factor * value}
    for latency in LATENCIES:
        for quantile, value in QUANTILE_THOUSANDTHS.items():
            expected[f"instance:vllm_{latency}_seconds:{quantile}_rate1m"] = {braces(everything): value}
    return expected | {HIT_RATIO: {braces(everything): 250}, ENABLED: {braces(target): 1000}}


def braces(labels: Mapping[str, str]) -> str:
    """Return labels in promtool's notation."""
    return selector("x", labels).removeprefix("x")


@pytest.mark.prometheus
@pytest.mark.parametrize("era", [era for era in ERAS if "off" not in era.name], ids=lambda era: era.stem)
def test_every_era_records_the_same(era: Path, rule_test: RuleTest) -> None:
    """One name per fact: where a release shows old and new names, or two jobs scrape it, nothing counts twice."""
    rule_test(series_of(era), expected_of(era))


@pytest.mark.prometheus
@pytest.mark.parametrize("era", [era for era in ERAS if era.name[:4] in {"0.10", "0.32"}], ids=lambda era: era.stem)
def test_engines_of_one_server_are_one(era: Path, rule_test: RuleTest) -> None:
    """A data-parallel server shows each series once per engine: counts add up, ratios and latencies do not."""
    series = series_of(era) | series_of(era, engine="1")
    assert len(series) == 2 * len(series_of(era)) - 1  # `up` is the server's
    rule_test(series, expected_of(era, factor=2))


@pytest.mark.prometheus
@pytest.mark.parametrize("target", LABELLED.values(), ids=LABELLED)
@pytest.mark.parametrize("era", [era for era in ERAS if era.name[:4] in {"0.6.", "0.32"}], ids=lambda era: era.stem)
def test_what_a_target_is_labelled_with_survives(era: Path, target: Mapping[str, str], rule_test: RuleTest) -> None:
    """Whoever looks for a pod or a rack finds it on every recorded name; and a target needs no label at all."""
    rule_test(series_of(era, target), expected_of(era, target=target))


@pytest.mark.prometheus
@pytest.mark.parametrize("gauges", [("vllm:kv_cache_usage_perc",), tuple(LEVELS)], ids=["one gauge", "every gauge"])
def test_api_processes_of_one_server_are_one(gauges: tuple[str, ...], rule_test: RuleTest) -> None:
    """Some releases show a gauge once for each API process, all but one of them at zero: no level changes by that."""
    era = next(era for era in ERAS if era.stem == "0.32.0")
    series = {}
    for name, values in series_of(era).items():
        metric, _, labels = name.partition("{")
        if metric in gauges:
            series[f'{metric}{{pid="273",{labels}'] = values
            series[f'{metric}{{pid="277",{labels}'] = f"0x{STEPS}"
        else:
            series[name] = values
    expected = expected_of(era)
    if "vllm:cache_config_info" in gauges:
        del expected[ENABLED]  # an info is 1 wherever it is shown
    rule_test(series, expected)


@pytest.mark.prometheus
def test_engines_that_differ_keep_the_extremes(rule_test: RuleTest) -> None:
    """The fullest pool preempts first, and a server caches only when all its engines do."""
    series = {}
    for engine, usage, caching in (("0", 0.25, "True"), ("1", 0.75, "False")):
        labels = {"engine": engine, "job": "vllm"}
        series[selector("vllm:kv_cache_usage_perc", labels)] = f"{usage}x{STEPS}"
        series[selector("vllm:cache_config_info", labels | {"enable_prefix_caching": caching})] = f"1x{STEPS}"
    thousandths = {
        "instance:vllm_kv_cache_usage_ratio:max": 750,
        "instance:vllm_kv_cache_usage_ratio:avg": 500,
        ENABLED: 0,
    }
    rule_test(series, {record: {braces({"job": "vllm"}): value} for record, value in thousandths.items()})


@pytest.mark.prometheus
@pytest.mark.parametrize(
    "era", [era for era in ERAS if "off" in era.name or "written" in era.name], ids=lambda era: era.stem
)
def test_caching_off_has_a_series_of_its_own(era: Path, rule_test: RuleTest) -> None:
    """With caching off V1 counts no queries and V0 shows -1: neither may become a hit rate of 0, or below."""
    off = {
        name: f"-1x{STEPS}" if "hit_rate" in name else f"0x{STEPS}" if "prefix_cache_" in name else values
        for name, values in series_of(era, enable_prefix_caching="False").items()
    }
    target = braces(TARGET | {"job": "vllm"})
    expected = expected_of(era) | {HIT_RATIO: {}, ENABLED: {target: 0}}
    for record in expected.keys() & QUERIED:
        expected[record] = dict.fromkeys(expected[record], 0)
    rule_test(off, expected)


@pytest.mark.prometheus
def test_an_idle_server_has_no_latency_and_no_hit_rate(rule_test: RuleTest) -> None:
    """A quantile or a ratio of nothing is NaN; on a panel it would look like a broken query."""
    era = ERAS[-1]
    idle = {name: f"0x{STEPS}" if "+" in values else values for name, values in series_of(era).items()}
    none: Expected = {record: {} for record in expected_of(era) if "p50" in record or record == HIT_RATIO}
    rule_test(idle, none)


@pytest.mark.prometheus
def test_a_restart_never_gives_a_negative_rate(rule_test: RuleTest) -> None:
    """Counters start again at 0 after a restart: 4 s at 40 a second, the restart, 6 s at 40 a second."""
    labels = {"job": "vllm", "model_name": "m"}
    series = {
        selector(name, labels): f"0+{per_second}x65 {per_second}+{per_second}x20"
        for name, per_second in GROWTH_PER_SECOND.items()
        if name.startswith(("vllm:prompt", "vllm:prefix"))
    }
    rule_test(
        series, {"instance:vllm_prompt_tokens:rate10s": {braces(labels): 40_000}, HIT_RATIO: {braces(labels): 250}}
    )


@pytest.mark.prometheus
def test_no_server_no_series(rule_test: RuleTest) -> None:
    """A server that is gone must leave gaps, not zeros that look like an idle one."""
    rule_test({"up": "0x80"}, {record: {} for record in expected_of(ERAS[-1])})

"""Recording rules for vLLM, written from the table of facts: one name per fact, whatever the release.

`python -m workload.promql.recording_rules` rewrites the committed files. Each rule reads only the job `vllm`
(`vllm-fast` scrapes the same server), takes the current name or, if it is absent, an older one, and aggregates over the
parts of one server: its engines and its API processes. It keeps every other label of a target.
Where a release exposes both names, `new or old` counts once: each side is aggregated first and matched by target and
model alone. A pattern on the name would count twice, and so would a label that only one of them has.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

from workload.promql.selectors import selector
from workload.promql.vllm_facts import Fact, load_facts

RATE_WINDOW = "10s"
LATENCY_WINDOW = "1m"
"""Longer, because a quantile needs several requests in its window, and agents send few."""

LATENCY_INTERVAL = "5s"
"""Quantiles read about twenty buckets over a minute; evaluating them every second would slow the measured system."""

QUANTILES = {"p50": "0.5", "p95": "0.95", "p99": "0.99"}
TARGET_LABELS = "cluster, namespace, pod, job, instance, run, experiment, arm, phase"
"""The labels that identify a target, on a host and in Kubernetes; a label that both sides lack counts as equal."""

MODEL_LABELS = f"{TARGET_LABELS}, model_name"
"""The labels that identify a series of vLLM after aggregation; two metrics may differ in any other label."""

OR = f" or on ({MODEL_LABELS}) "

PARTS = "engine, pid"
"""The labels of a server's data-parallel engines, and of its API processes if a release does not join their gauges."""

JOB = {"job": "vllm"}
UP = selector("up", JOB)

HEADER = "# Written by `python -m workload.promql.recording_rules` from ../vllm_metrics.yaml; edit one of these two.\n"


@dataclass(frozen=True)
class Rule:
    """A recorded name, its expression, and what a reader should know."""

    record: str
    expr: str
    note: str = ""


def render() -> dict[str, str]:
    """Return the content of every file in `prometheus/rules`, by file name."""
    facts = load_facts()
    rates = [rule for fact in facts.values() if fact.record and fact.type != "histogram" for rule in _plain(fact)]
    latencies = [rule for fact in facts.values() if fact.record and fact.type == "histogram" for rule in _latency(fact)]
    groups = [
        _group("vllm", [*rates, _hit_ratio(facts), _caching_enabled(facts["cache_config"])]),
        _group("vllm-latency", latencies, LATENCY_INTERVAL),
    ]
    return {"vllm.yml": HEADER + "groups:\n" + "".join(groups)}


def _plain(fact: Fact) -> list[Rule]:
    if fact.type == "counter":
        return [Rule(f"instance:{fact.record}:rate{RATE_WINDOW}", _rate(fact), fact.note)]
    ways = ("max", "avg") if fact.unit == "ratio" else ("sum",)
    return [Rule(f"instance:{fact.record}:{way}", _level(fact, way), fact.note) for way in ways]


def _latency(fact: Fact) -> list[Rule]:
    buckets = _rate(fact, "_bucket", LATENCY_WINDOW)
    # Without requests the quantile is NaN, which no comparison lets through: no data instead.
    return [
        Rule(
            f"instance:{fact.record}:{name}_rate{LATENCY_WINDOW}",
            f"histogram_quantile({quantile}, {buckets}) >= 0",
            fact.note,
        )
        for name, quantile in QUANTILES.items()
    ]


def _hit_ratio(facts: dict[str, Fact]) -> Rule:
    hits, queries, gauge = (
        facts[key] for key in ("prefix_cache_hits", "prefix_cache_queries", "prefix_cache_hit_rate")
    )
    return Rule(
        f"instance:vllm_prefix_cache_hits_per_queries:ratio_rate{RATE_WINDOW}",
        f"({_rate(hits)})\n/ on ({MODEL_LABELS}) group_left ()\n(sum by ({MODEL_LABELS}) ({_rate(queries)}) > 0)\n"
        f"or on ({MODEL_LABELS}) {_level(gauge, 'max')} >= 0",
        f"No data without queries, so none with caching off. {gauge.current}: {gauge.note}",
    )


def _caching_enabled(fact: Fact) -> Rule:
    on = f'{fact.current}{{enable_prefix_caching="True",job="vllm"}}'
    off = f'{fact.current}{{enable_prefix_caching!="True",job="vllm"}}'
    lowest = f"min by ({TARGET_LABELS}) ({on} or 0 * {off})"
    return Rule(
        "instance:vllm_prefix_caching_enabled:min",
        f"{UP}\n* on ({TARGET_LABELS}) group_left ()\n{lowest}\nor on ({TARGET_LABELS})\n{lowest}",
        "1 or 0. The info metric's labels are the whole configuration, so the target's labels come from `up`. Without "
        "`up` (a federation) only the labels named here remain.",
    )


def _level(fact: Fact, way: str) -> str:
    """Return a gauge over the engines of a server; the highest of an engine's API processes is its value."""
    return OR.join(f"{way} without (engine) (max without (pid) ({selector(name.name, JOB)}))" for name in fact.names)


def _rate(fact: Fact, suffix: str = "", window: str = RATE_WINDOW) -> str:
    return OR.join(
        f"sum without ({PARTS}) (rate({selector(name.name + suffix, JOB)}[{window}]))" for name in fact.names
    )


def _group(name: str, rules: list[Rule], interval: str = "") -> str:
    lines = [f"  - name: {name}", *([f"    interval: {interval}"] if interval else []), "    rules:"]
    for before, rule in zip([None, *rules], rules, strict=False):
        if rule.note and (before is None or rule.note != before.note):
            lines += wrap(rule.note, 112, initial_indent="      # ", subsequent_indent="      # ")
        lines += [f"      - record: {rule.record}", "        expr: |-"]
        lines += [f"          {line}" for line in rule.expr.splitlines()]
    return "\n".join(lines) + "\n"


def main(folder: Path = Path(__file__).parents[2] / "prometheus" / "rules") -> int:
    """Rewrite the rule files in the checkout and remove those that are no longer rendered."""
    folder.mkdir(exist_ok=True)
    files = render()
    for stray in {path.name for path in folder.glob("*.yml")} - files.keys():
        (folder / stray).unlink()
    for name, text in files.items():
        (folder / name).write_text(text)
        print(folder / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Recording rules for vLLM, written from the table of facts: one name per fact, whatever the release.

`python -m workload.rules` rewrites the committed files. Each rule reads the job `vllm` only (`vllm-fast` scrapes the
same server), takes the current name or, where that is absent, an older one, and aggregates the label `engine` away.
`new or old` works where a release shows both names; a pattern on the name would count twice there.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

from workload.selectors import selector
from workload.vllm_facts import Fact, load_facts

RATE_WINDOW = "10s"
LATENCY_WINDOW = "1m"
"""Ten times longer: a quantile needs some requests in its window, and agents send few."""

LATENCY_INTERVAL = "5s"
"""Quantiles read some twenty buckets over a minute; every second would be work taken from what is measured."""

QUANTILES = {"p50": "0.5", "p95": "0.95", "p99": "0.99"}
TARGET_LABELS = "job, instance, run, experiment, arm"
JOB = {"job": "vllm"}

HEADER = "# Written by `python -m workload.rules` from ../vllm_metrics.yaml; edit that, or workload/rules.py.\n"


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
        expr = f"sum without (engine) ({_rate(fact)})"
        return [Rule(f"instance:{fact.record}:rate{RATE_WINDOW}", expr, fact.note)]
    either = " or ".join(selector(name.name, JOB) for name in fact.names)
    ways = ("max", "avg") if fact.unit == "ratio" else ("sum",)
    return [Rule(f"instance:{fact.record}:{way}", f"{way} without (engine) ({either})", fact.note) for way in ways]


def _latency(fact: Fact) -> list[Rule]:
    buckets = f"sum without (engine) ({_rate(fact, '_bucket', LATENCY_WINDOW)})"
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
        f"sum without (engine) ({_rate(hits)})\n"
        f"/ (sum without (engine) ({_rate(queries)}) > 0)\n"
        f"or max without (engine) ({selector(gauge.current, JOB)}) >= 0",
        f"Nothing without queries, so nothing with caching off. {gauge.current}: {gauge.note}",
    )


def _caching_enabled(fact: Fact) -> Rule:
    on = f'{fact.current}{{enable_prefix_caching="True",job="vllm"}}'
    off = f'{fact.current}{{enable_prefix_caching!="True",job="vllm"}}'
    return Rule(
        "instance:vllm_prefix_caching_enabled:min",
        f"min by ({TARGET_LABELS}) ({on} or 0 * {off})",
        "1 or 0. Its other labels are the whole configuration, so the labels to keep are named.",
    )


def _rate(fact: Fact, suffix: str = "", window: str = RATE_WINDOW) -> str:
    return " or ".join(f"rate({selector(name.name + suffix, JOB)}[{window}])" for name in fact.names)


def _group(name: str, rules: list[Rule], interval: str = "") -> str:
    lines = [f"  - name: {name}", *([f"    interval: {interval}"] if interval else []), "    rules:"]
    for before, rule in zip([None, *rules], rules, strict=False):
        if rule.note and (before is None or rule.note != before.note):
            lines += wrap(rule.note, 112, initial_indent="      # ", subsequent_indent="      # ")
        lines += [f"      - record: {rule.record}", "        expr: |-"]
        lines += [f"          {line}" for line in rule.expr.splitlines()]
    return "\n".join(lines) + "\n"


def main(folder: Path = Path(__file__).parent.parent / "prometheus" / "rules") -> int:
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

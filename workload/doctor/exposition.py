"""Judges an exposition of vLLM by the table of facts: shown, renamed, escaped, flag-gated or missing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.version import Version
from prometheus_client.parser import text_string_to_metric_families

from workload.doctor.finding import Finding
from workload.engine.facts import CACHE_CONFIG

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workload.promql.vllm_facts import Fact

PART = "vLLM"
NO_METRICS = Finding(
    PART,
    "metrics",
    "fault",
    "/metrics shows nothing of vLLM.",
    "Start vLLM without --disable-log-stats, and check that the address is vLLM's own.",
)


@dataclass(frozen=True)
class Exposition:
    """Names as the table has them (a counter with `_total`, a histogram bare), and the cache configuration's labels.

    Attributes:
        shown: names that have a sample.
        declared: names that have a type, with or without a sample.
        cache_config: labels of `vllm:cache_config_info`, empty without a sample.
    """

    shown: frozenset[str]
    declared: frozenset[str]
    cache_config: Mapping[str, str]


def read_exposition(text: str) -> Exposition:
    """Return the metrics in a text exposition.

    Raises:
        ValueError: the text is not an exposition.
    """
    shown, declared, cache_config = set(), set(), {}
    for family in text_string_to_metric_families(text):
        declared.add(f"{family.name}_total" if family.type == "counter" else family.name)
        for sample in family.samples:
            shown.add(sample.name.removesuffix("_bucket"))
            if sample.name == CACHE_CONFIG:
                cache_config = sample.labels
    return Exposition(frozenset(shown), frozenset(declared), cache_config)


def original_name(name: str) -> str:
    """Return vLLM's own name of a metric that was renamed on its way.

    `U__vllm_3a_x__y` is Prometheus' escaping of names; `vllm_x_y` and `ray_vllm_x_y` come from collectors that forbid
    colons or add a prefix. All are `vllm:x_y`.
    """
    if name.startswith("U__"):
        name = re.sub(r"_([0-9a-f]+)_|__", lambda found: chr(int(found[1], 16)) if found[1] else "_", name[3:])
    return re.sub(r"^(?:\w*_)?vllm[_:]", "vllm:", name)


def judge(exposition: Exposition, version: Version | None, facts: Mapping[str, Fact]) -> list[Finding]:
    """Return a finding for each fact, in the table's order, and one for the state of prefix caching.

    `version` is the server's release, None if it is unknown; `facts` is the table.
    """
    rewritten = {original_name(name): name for name in exposition.shown if not name.startswith("vllm:")}
    names = {name.name for fact in facts.values() for name in fact.names}
    if not names & (exposition.declared | exposition.shown | rewritten.keys()):
        return [NO_METRICS]
    return [*(_judge(fact, exposition, rewritten, version) for fact in facts.values()), *_caching(exposition)]


def _judge(fact: Fact, exposition: Exposition, rewritten: Mapping[str, str], version: Version | None) -> Finding:
    names = [name.name for name in fact.names]
    if fact.current in exposition.shown:
        return Finding(PART, fact.key, "ok", f"Shown as {fact.current}.")
    if old := next((name for name in fact.older if name in exposition.shown), None):
        says = f"Renamed: here {old}, from {fact.names[0].since} on {fact.current}. {fact.note}".strip()
        remedy = "Nothing: the rules read both." if fact.record or fact.fast else f"Query {old} on this release."
        return Finding(PART, fact.key, "note", says, remedy)
    if found := next((rewritten[name] for name in names if name in rewritten), None):
        return Finding(
            PART,
            fact.key,
            "fault",
            f"Escaped: {fact.current} arrives as {found}, which no rule reads.",
            "Scrape vLLM itself, or give the name its colon back with metric_relabel_configs.",
        )
    if exposition.declared.intersection(names):
        return Finding(PART, fact.key, "note", f"{fact.current} has no sample yet.", "Ask the model something first.")
    return _absent(fact, version)


def _absent(fact: Fact, version: Version | None) -> Finding:
    first = min((name.since for name in fact.names), key=Version)
    if version is None:
        return Finding(PART, fact.key, "note", f"{fact.current} is not shown; the release is unknown.")
    if version.release < Version(first).release:
        says = f"Not yet: {fact.current} comes with vLLM {first}. {fact.note}".strip()
        return Finding(PART, fact.key, "note", says, "Upgrade vLLM to see it.")
    if fact.flag:
        says = f"Flag-gated: {fact.current} is shown only with {fact.flag}."
        return Finding(PART, fact.key, "note", says, f"Start vLLM with {fact.flag} to see it.")
    if any(name.shown_in(str(version)) for name in fact.names):
        return Finding(
            PART,
            fact.key,
            "fault",
            f"Missing: vLLM {version} should show {fact.current}.",
            "Look for metric_relabel_configs or a proxy that drops it; if vLLM has renamed it, add the new name to "
            "prometheus/vllm_metrics.yaml.",
        )
    return Finding(PART, fact.key, "note", f"Gone: {fact.current} was last shown by {fact.names[0].until}.", fact.note)


def _caching(exposition: Exposition) -> list[Finding]:
    state = exposition.cache_config.get("enable_prefix_caching")
    if state == "True":
        return [Finding(PART, "caching", "ok", "Prefix caching is on.")]
    if state == "False":
        says = "Prefix caching is off: the hit rate is absent, which is not 0."
        return [Finding(PART, "caching", "note", says, "Start vLLM with --enable-prefix-caching to measure it.")]
    return []

"""What a panel says about itself: its reason, the series it reads, and the vLLM releases that show them."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from packaging.version import Version

from workload.promql.vllm_facts import Fact, load_facts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workload.panels.panel import Panel

SELECTED = re.compile(r"([a-zA-Z_:][\w:]*)\{")
HISTOGRAM_PART = re.compile(r"_(bucket|sum|count)$")
DERIVED = {
    # where the counters of hits and queries do not exist yet, the rule records the gauge that came before them
    "instance:vllm_prefix_cache_hits_per_queries:ratio_rate10s": "prefix_cache_hit_rate",
    "instance:vllm_prefix_caching_enabled:min": "cache_config",
}
# Only a server that reports it with each reply lets the agent count cached tokens.
BY_FLAG = {
    "hop2rag_cached_prompt_tokens_total": "--enable-prompt-tokens-details",
    "hop2rag_reusable_prompt_tokens_total": "--enable-prompt-tokens-details",
}


def metrics(panel: Panel) -> list[str]:
    """Return the names of the series that a panel's queries select, each once."""
    return list(dict.fromkeys(name for line in panel.lines for name in SELECTED.findall(line.query.expression)))


def describe(panel: Panel) -> str:
    """Return the text behind a panel's title."""
    names = metrics(panel)
    return " ".join([panel.why, f"Reads {', '.join(names)}.", *_needs(names)])


def _needs(names: Iterable[str]) -> list[str]:
    """Return a sentence on releases, and one on flags, for what comes from the engine."""
    facts = _facts()
    found = [(name, fact) for name in names if (fact := _fact(name, facts))]
    since = max((_first_release(name, fact) for name, fact in found), default=None, key=Version)
    flags = sorted({BY_FLAG[name] for name in names if name in BY_FLAG} | {fact.flag for _, fact in found if fact.flag})
    sentences = [f"Needs vLLM {since} or newer."] if since else []
    return [*sentences, *(f"Needs vLLM's {flag}." for flag in flags)]


@cache
def _facts() -> dict[str, Fact]:
    return load_facts()


def _fact(name: str, facts: dict[str, Fact]) -> Fact | None:
    if name in DERIVED:
        return facts[DERIVED[name]]
    level, _, rest = name.partition(":")
    for fact in facts.values():
        if level == "instance" and fact.record and rest.partition(":")[0] == fact.record:
            return fact
        if HISTOGRAM_PART.sub("", name) in {known.name for known in fact.names}:
            return fact
    return None


def _first_release(name: str, fact: Fact) -> str:
    """Return the first release that shows a name; a recorded name joins all names that its fact has had."""
    known = [each for each in fact.names if each.name == HISTOGRAM_PART.sub("", name)] or fact.names
    return min((each.since for each in known), key=Version)

"""The doctor on every exposition we have and on ones made ill: each difference is called by its name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from workload.doctor.exposition import judge, original_name, read_exposition
from workload.doctor.finding import Finding, exit_code
from workload.promql.vllm_facts import load_facts

if TYPE_CHECKING:
    from collections.abc import Callable

FIXTURES = Path(__file__).parents[2] / "fixtures"
EXPOSITIONS = sorted([*(FIXTURES / "vllm_eras").glob("*.prom"), *(FIXTURES / "vllm").glob("*.prom")])
FACTS = load_facts()
RECORDED = [fact for fact in FACTS.values() if fact.record]
NEWEST = (FIXTURES / "vllm_eras" / "0.32.0.prom").read_text()
RENAMED = {
    "0.6.6": {"kv_cache_usage", "inter_token_latency"},
    "0.8.5": {"kv_cache_usage", "inter_token_latency", "prefix_cache_queries", "prefix_cache_hits"},
}


def release(path: Path) -> Version:
    """Return the release an exposition comes from."""
    found = re.search(r"\d+\.\d+\.\d+", path.name)
    assert found
    return Version(found[0])


def judged(text: str, version: Version | None) -> dict[str, Finding]:
    """Return the findings on an exposition by subject."""
    return {finding.subject: finding for finding in judge(read_exposition(text), version, FACTS)}


@pytest.mark.parametrize("path", EXPOSITIONS, ids=lambda path: path.stem)
def test_every_known_release_is_well_and_explained(path: Path) -> None:
    """A fault on a healthy server sends people looking for what is not there."""
    text, version = path.read_text(), release(path)
    found = judged(text, version)
    assert exit_code(list(found.values())) == 0
    renamed = {subject for subject, finding in found.items() if finding.says.startswith("Renamed")}
    assert renamed == RENAMED.get(str(version), set())
    for fact in FACTS.values():
        shown = re.search(rf"^{fact.current}(_bucket)?[{{ ]", text, re.MULTILINE)
        assert (found[fact.key].level == "ok") == bool(shown), found[fact.key]
        assert found[fact.key].level == "ok" or fact.current in found[fact.key].says
    assert found["caching"].level == ("note" if "off" in path.name else "ok")


def test_what_needs_a_flag_is_reported_with_the_flag() -> None:
    """The metric was hidden, not removed: only the flag brings it back."""
    finding = judged((FIXTURES / "vllm_eras" / "0.16.0.prom").read_text(), Version("0.16.0"))["kv_block_lifetime"]
    assert finding.says.startswith("Flag-gated")
    assert "--kv-cache-metrics" in finding.remedy
    assert judged(NEWEST, Version("0.32.0"))["kv_block_lifetime"].level == "ok"


def test_ages_are_distinguished() -> None:
    """Upgrading helps with one and never with the other."""
    found = judged((FIXTURES / "vllm_eras" / "0.11.0.prom").read_text(), Version("0.11.0"))
    assert found["prompt_tokens_cached"].says.startswith("Not yet")
    assert "0.16.0" in found["prompt_tokens_cached"].says
    assert found["requests_swapped"].says.startswith("Gone")
    assert "0.8.1" in found["requests_swapped"].says


@pytest.mark.parametrize("fact", RECORDED, ids=lambda fact: fact.key)
def test_a_metric_that_vanished_is_a_fault(fact: Any) -> None:
    """The release shows it by its source, this server does not: a proxy drops it, or the next release renamed it."""
    lines = [line for line in NEWEST.splitlines(keepends=True) if fact.current not in line]
    finding = judged("".join(lines), Version("0.33.0"))[fact.key]
    assert finding.level == "fault"
    assert finding.says.startswith("Missing")
    assert judged("".join(lines), None)[fact.key].level == "note", "without a release nothing can be demanded"


@pytest.mark.parametrize("fact", RECORDED, ids=lambda fact: fact.key)
def test_a_metric_without_a_sample_is_not_missing(fact: Any) -> None:
    """A server that was asked nothing yet shows some metrics by their type only."""
    lines = [line for line in NEWEST.splitlines(keepends=True) if not line.startswith(fact.current)]
    finding = judged("".join(lines), Version("0.32.0"))[fact.key]
    assert (finding.level, finding.remedy) == ("note", "Ask the model something first.")


REWRITTEN: dict[str, Callable[[str], str]] = {
    "underscore": lambda name: name.replace(":", "_"),
    "prefix": lambda name: "ray_" + name.replace(":", "_"),
    "prefix, colon kept": lambda name: "ray_" + name,
    "values": lambda name: "U__" + name.replace("_", "__").replace(":", "_3a_"),
}


@pytest.mark.parametrize("way", REWRITTEN)
def test_rewritten_names_are_recognised(way: str) -> None:
    """Collectors that allow no colon are common; every rule is then empty though every number is there."""
    text = re.sub(r"vllm:\w+", lambda name: REWRITTEN[way](name[0]), NEWEST)
    found = judged(text, Version("0.32.0"))
    for fact in RECORDED:
        expected = f"Escaped: {fact.current} arrives as {REWRITTEN[way](fact.current)}"
        if fact.type != "histogram" or way != "values":
            assert found[fact.key].says.startswith(expected)
        assert found[fact.key].level == "fault"


def test_escaping_is_undone_for_every_name() -> None:
    """Names full of underscores and digits are where undoing an escape goes wrong."""
    for fact in FACTS.values():
        for name in fact.names:
            assert {original_name(rewrite(name.name)) for rewrite in REWRITTEN.values()} == {name.name}
            assert original_name(name.name) == name.name


@given(st.text() | st.text(alphabet='vlm:ab{}="\\ 1.#\n,TYPEHELP'))
def test_no_text_but_an_exposition_is_read(text: str) -> None:
    """Whatever listens at the address may answer anything."""
    try:
        read_exposition(text)
    except ValueError:
        return
    assert judge(read_exposition(text), None, FACTS), "nothing of vLLM is a finding too"

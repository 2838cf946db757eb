"""The rule files, the table they come from and the configuration: in step with each other and with real servers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from packaging.version import Version
from prometheus_client.parser import text_string_to_metric_families

from workload.paths import asset
from workload.promql.recording_rules import main, render
from workload.promql.vllm_facts import Fact, MetricName, load_facts
from workload.services.prometheus_server import render_config

if TYPE_CHECKING:
    from collections.abc import Callable

ERAS = sorted((Path(__file__).parents[1] / "fixtures" / "vllm_eras").glob("*.prom"))
FACTS = load_facts()
NAMES = [(fact, name) for fact in FACTS.values() for name in fact.names]


def test_committed_rules_are_the_rendered_ones() -> None:
    """A stale, missing or orphaned file is run too; `python -m workload.promql.recording_rules` writes them."""
    committed = {path.name: path.read_text() for path in asset("prometheus/rules").iterdir()}
    assert committed == render(), "run `python -m workload.promql.recording_rules` and commit the difference"


def test_rewriting_removes_what_is_no_longer_rendered(tmp_path: Path) -> None:
    """A rule file left over would go on recording under a name nobody maintains."""
    (tmp_path / "old.yml").write_text("groups: []")
    main(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == render()


@pytest.mark.parametrize("era", ERAS, ids=lambda era: era.stem)
def test_the_table_agrees_with_expositions(era: Path) -> None:
    """A name that the table has in the wrong releases is a rule that silently records nothing there."""
    version = era.stem.partition("_")[0]
    exposed = {sample.name for family in text_string_to_metric_families(era.read_text()) for sample in family.samples}
    for fact, name in NAMES:
        shown = {name.name, f"{name.name}_bucket"} & exposed
        if fact.flag and not shown:
            continue
        assert bool(shown) == name.shown_in(version), f"{name.name} in {version}"


def test_names_are_unique_and_current_first() -> None:
    """`new or old` prefers the first: with the old one first, a release that shows both would be read by the old."""
    assert len({name.name for _, name in NAMES}) == len(NAMES)
    for fact in FACTS.values():
        assert all(name.until for name in fact.names[1:]), fact.key
        since = [Version(name.since) for name in fact.names]
        assert since == sorted(since, reverse=True), fact.key


@pytest.mark.parametrize(
    ("version", "shown"), [("0.9.1", False), ("0.9.2", True), ("0.10.2.post1", True), ("0.11.0rc1+cpu", False)]
)
def test_versions_compare_as_numbers(version: str, shown: bool) -> None:
    """As text 0.10 lies before 0.9; servers report suffixes too."""
    assert MetricName("x", "0.9.2", "0.10.2").shown_in(version) is shown


def test_the_fast_job_keeps_the_facts_marked_fast() -> None:
    """Every series more is rendered and stored ten times a second; one less is an empty panel."""
    jobs = yaml.safe_load(asset("prometheus/prometheus.yml").read_text())["scrape_configs"]
    (fast,) = (job for job in jobs if job["job_name"] == "vllm-fast")
    keep = re.compile(fast["metric_relabel_configs"][0]["regex"])

    def kept(fact: Fact, name: MetricName) -> bool:
        suffix = "_bucket" if fact.type == "histogram" else ""
        return keep.fullmatch(name.name + suffix) is not None

    assert {name.name for fact, name in NAMES if kept(fact, name)} == {name.name for fact, name in NAMES if fact.fast}


def test_time_outs_never_exceed_intervals() -> None:
    """Prometheus refuses such a job, and with it the whole configuration."""
    config = yaml.safe_load(asset("prometheus/prometheus.yml").read_text())
    for job in [config["global"], *config["scrape_configs"]]:
        assert job.get("scrape_timeout") == job.get("scrape_interval")


@pytest.mark.prometheus
def test_promtool_accepts_rules_and_rendered_configuration(promtool: Callable[..., str], tmp_path: Path) -> None:
    """The oracle of what Prometheus will load; the committed file must be valid as it stands, too."""
    assert "rules found" in promtool("check", "rules", *sorted(asset("prometheus/rules").glob("*.yml")))
    rule_files = sum(len(list(asset(f"prometheus/{folder}").glob("*.yml"))) for folder in ("rules", "alerts"))
    template = asset("prometheus/prometheus.yml")
    rendered = tmp_path / "prometheus.yml"
    rendered.write_text(render_config(template, targets=tmp_path, port=9090, sample_interval_ms=100))
    for file in (template, rendered):
        assert f"{rule_files} rule files found" in promtool("check", "config", file)

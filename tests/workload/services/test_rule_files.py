"""Whoever is woken follows a link: it leads somewhere from a pager, not only from the root of this checkout."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from workload.errors import UsageError
from workload.paths import asset
from workload.services.rule_files import (
    BASE_VARIABLE,
    GRAFANA_VARIABLE,
    OUR_GRAFANA,
    alerts_on_live_targets,
    bases_of_this_host,
    checked,
    linked,
)

FILES = sorted(asset("prometheus/alerts").glob("*.yml"))
BASE, GRAFANA = "https://docs.example.org/runbooks", "https://grafana.example.org"


def links(text: str, name: str = "runbook_url") -> list[str]:
    """Return the links of all alerts in a rule file."""
    groups = yaml.safe_load(text)["groups"]
    return [rule["annotations"][name] for group in groups for rule in group["rules"] if "alert" in rule]


def test_on_a_host_every_link_is_absolute_and_leads_to_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an address that somebody has given, the pages of this very checkout are the ones that fit."""
    monkeypatch.delenv(BASE_VARIABLE, raising=False)
    monkeypatch.delenv(GRAFANA_VARIABLE, raising=False)
    text = alerts_on_live_targets(FILES, 0.0)
    found = links(text)
    assert found
    assert all(Path(unquote(urlsplit(link).path)).is_file() and link.startswith("file:///") for link in found)
    assert all(link.startswith(f"{OUR_GRAFANA}/d/hop2rag-") for link in links(text, "dashboard_url"))


def test_a_base_that_is_given_is_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """One place: a link that keeps the old base is dead at night."""
    monkeypatch.setenv(BASE_VARIABLE, BASE + "/")
    monkeypatch.setenv(GRAFANA_VARIABLE, GRAFANA)
    text = alerts_on_live_targets(FILES, 0.0)
    assert {link.rpartition("/")[0] for link in links(text)} == {BASE}
    assert {link.partition("/d/")[0] for link in links(text, "dashboard_url")} == {GRAFANA}


def test_links_are_replaced_again_and_nothing_else() -> None:
    """A second base replaces the first, and nothing else in a file changes."""
    for path in FILES:
        written = linked(
            linked(path.read_text(), "https://old.example.org", "https://old.example.org/g"), BASE, GRAFANA
        )
        assert {link.rpartition("/")[0] for link in links(written)} == {BASE}
        assert {link.partition("/d/")[0] for link in links(written, "dashboard_url")} == {GRAFANA}
        assert linked(written) == path.read_text()


@pytest.mark.parametrize("url", ["docs", "javascript://x", "https://a b", "https://{{ $labels.x }}", "https://a\nb"])
def test_what_is_no_address_is_refused(url: str) -> None:
    """Prometheus would run it as a template, or write two lines of YAML where one stood."""
    with pytest.raises(UsageError, match="not a URL"):
        checked(url)
    for variable in (BASE_VARIABLE, GRAFANA_VARIABLE):
        with pytest.raises(UsageError):
            bases_of_this_host({variable: url})

"""Whoever is woken follows a link: it leads somewhere from a pager, not only from the root of this checkout."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from workload.errors import UsageError
from workload.paths import asset
from workload.services.runbooks import BASE_VARIABLE, alerts_on_live_targets, checked, linked, main, runbook_base

FILES = sorted(asset("prometheus/alerts").glob("*.yml"))
BASE = "https://docs.example.org/runbooks"


def links(text: str) -> list[str]:
    """Return the links of all alerts in a rule file."""
    groups = yaml.safe_load(text)["groups"]
    return [rule["annotations"]["runbook_url"] for group in groups for rule in group["rules"] if "alert" in rule]


def test_on_a_host_every_link_is_absolute_and_leads_to_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an address that somebody has given, the pages of this very checkout are the ones that fit."""
    monkeypatch.delenv(BASE_VARIABLE, raising=False)
    found = links(alerts_on_live_targets(FILES, 0.0))
    assert found
    assert all(Path(unquote(urlsplit(link).path)).is_file() and link.startswith("file:///") for link in found)


def test_a_base_that_is_given_is_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """One place: a link that keeps the old base is dead at night."""
    monkeypatch.setenv(BASE_VARIABLE, BASE + "/")
    found = links(alerts_on_live_targets(FILES, 0.0))
    assert {link.rpartition("/")[0] for link in found} == {BASE}


def test_rule_files_are_rewritten_in_place_and_again(tmp_path: Path) -> None:
    """A second base replaces the first, and nothing else in a file changes."""
    for path in FILES:
        (tmp_path / path.name).write_text(path.read_text())
    assert [main([base], tmp_path) for base in ("https://old.example.org", BASE)] == [0, 0]
    for path in FILES:
        written = (tmp_path / path.name).read_text()
        assert {link.rpartition("/")[0] for link in links(written)} == {BASE}
        assert linked(written, "docs/runbooks") == path.read_text()


@pytest.mark.parametrize(
    "base", ["", "docs", "javascript://x", "https://a b", "https://{{ $labels.x }}", "https://a\nb"]
)
def test_what_is_no_address_is_refused(base: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Prometheus would run it as a template, or write two lines of YAML where one stood."""
    with pytest.raises(UsageError, match="not a URL"):
        checked(base)
    assert main([base]) == main([]) == 2
    assert capsys.readouterr().err.count("usage:") == 2
    if base:
        with pytest.raises(UsageError):
            runbook_base({BASE_VARIABLE: base})

"""docs/metrics.md is written from the instruments, and complete."""

from __future__ import annotations

import re
from pathlib import Path

from exporter.reference import render

ROOT = Path(__file__).parents[2]
COMMAND = "python -m exporter.reference > docs/metrics.md"


def test_the_reference_is_fresh() -> None:
    """A reference that is written by hand is wrong after the first rename."""
    assert (ROOT / "docs" / "metrics.md").read_text() == render(), f"stale: run `{COMMAND}` and commit it"


def test_every_series_of_the_goldens_is_described() -> None:
    """A series that is served but not described is a question in an issue."""
    described = set(re.findall(r"^\| `(\w+)`", render(), re.MULTILINE))
    for golden in (ROOT / "tests" / "golden").glob("exposition_*.prom"):
        served = set(re.findall(r"^# TYPE (\w+)", golden.read_text(), re.MULTILINE))
        assert served <= described, golden.name


def test_every_row_says_what_it_means() -> None:
    """A name is not a description."""
    rows = [line.split(" | ") for line in render().splitlines() if line.startswith("| `")]
    assert len(rows) > 40
    for name, kind, unit, labels, meaning in rows:
        assert len(meaning.split()) >= 3, name
        assert kind in {"counter", "gauge", "histogram", "info"}
        assert (unit, labels) != ("", "")

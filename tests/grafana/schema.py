"""A dashboard against Grafana's own types, as JSON Schema; see tests/fixtures/grafana/README.md."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator  # type: ignore[import-untyped]

FILE = Path(__file__).parents[1] / "fixtures" / "grafana" / "panels.schema.json"
PARTS = "#/definitions/Panels/properties"
# Panels are checked by their type; annotations are Prometheus queries here, which the type of a target leaves out.
BY_TYPE = ("panels", "annotations")


def violations(dashboard: dict[str, Any]) -> list[str]:
    """Return where a dashboard or one of its panels is not what Grafana's types say."""
    types = set(_definitions()["definitions"]["Panels"]["properties"]) - {"dashboard"}
    found = _errors("dashboard", {name: value for name, value in dashboard.items() if name not in BY_TYPE})
    for panel in dashboard["panels"]:
        known = panel["type"] in types
        found += _errors(panel["type"], panel) if known else [f"{panel['title']}: no panel type {panel['type']}"]
    return found


def _errors(part: str, value: dict[str, Any]) -> list[str]:
    where = value.get("title")
    return [f"{where}: {error.json_path}: {error.message}" for error in _validator(part).iter_errors(value)]


@cache
def _validator(part: str) -> Draft7Validator:
    return Draft7Validator({**_definitions(), "$ref": f"{PARTS}/{part}"})


@cache
def _definitions() -> dict[str, Any]:
    definitions: dict[str, Any] = json.loads(FILE.read_text())
    return definitions

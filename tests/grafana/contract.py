"""The contract of a query: every name, label and value that it asks for is exposed by something."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import promql_parser

from tests.grafana.expansion import CHOSEN, expand
from tests.grafana.expositions import JOBS, TARGET_LABELS
from tests.grafana.lint import selectors, targets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Known = Mapping[str, Mapping[str, set[str]]]


def breaches(dashboard: dict[str, Any], known: Known) -> list[str]:
    """Return what a dashboard asks for in vain, as `where: what`."""
    return [
        f"{title}: {found}" for title, expression in targets(dashboard) for found in _in_vain(expand(expression), known)
    ]


def _in_vain(expression: str, known: Known) -> Iterator[str]:
    kept: set[str] = set()
    for selector, _ in selectors(expression):
        labels = known.get(str(selector.name), {})
        if not labels:
            yield f"{selector.name} is exposed by nothing"
        for matcher in selector.matchers.matchers:
            values = set(JOBS) if matcher.name == "job" else labels.get(matcher.name, set())
            if matcher.name not in labels:
                yield f"{selector.name} has no label {matcher.name}"
            elif matcher.value in CHOSEN.values():  # of a variable
                continue
            elif matcher.op == promql_parser.MatchOp.Equal and values and matcher.value not in values:
                yield f"{selector.name} has no {matcher.name}={matcher.value}"
        kept |= labels.keys()
    found: list[promql_parser.Expr] = []
    promql_parser.walk(promql_parser.parse(expression), found.append)
    for node in found:
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            yield from (
                f"no series has the label {label}" for label in set(node.modifier.labels) - kept - {*TARGET_LABELS}
            )

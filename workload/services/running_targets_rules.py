"""Alert rules that ignore targets of runs which ended before Prometheus was started.

Our Prometheus stops with a run and starts again with the next, on the same data. For five minutes a query returns the
last samples of a killed run, and a range returns them for hours, so the rules are joined with what is scraped now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from workload.services.runbooks import linked, runbook_base

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def alerts_on_live_targets(files: Iterable[Path], since: float) -> str:
    """Return the rule groups of `files` as one file; its alerts ignore targets last scraped before `since`.

    An alert without a `run` label, such as one on Prometheus itself, is unchanged. Links to runbooks become absolute,
    see `workload.services.runbooks`.

    Args:
        files: rule files with alerts.
        since: when Prometheus is started, in seconds since the epoch.

    Raises:
        UsageError: HOP2RAG_RUNBOOK_BASE is not a URL.
    """
    texts, base = [path.read_text() for path in files], runbook_base()
    groups: list[dict[str, Any]] = [group for text in texts for group in yaml.safe_load(linked(text, base))["groups"]]
    for rule in (rule for group in groups for rule in group["rules"] if "alert" in rule):
        rule["expr"] = (
            f"(\n{rule['expr'].strip()}\n)\n"
            f'and on (run) (group by (run) (timestamp(up{{run!=""}}) > {since:.3f}) or vector(1))\n'
            f'unless on (run, instance) timestamp(up{{run!=""}}) <= {since:.3f}\n'
        )
    return yaml.safe_dump({"groups": groups}, sort_keys=False, width=1000)

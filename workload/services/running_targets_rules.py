"""Alerts of what lives: those of runs that had ended before Prometheus was started are none.

A Prometheus of ours is stopped with the run and started again with the next, on the same data. For five minutes a query
finds the last samples of whatever was killed, and a range finds them for hours; so the alerts of the files are joined
with what is scraped now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from workload.services.runbooks import linked, runbook_base

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def alerts_on_live_targets(files: Iterable[Path], since: float) -> str:
    """Return the rule groups of `files` as one file, whose alerts are silent on what was last scraped before `since`.

    An alert without a `run` is of no run, such as those on Prometheus itself, and stays as it is. Links to runbooks are
    made absolute, see `workload.services.runbooks`.

    Args:
        files: rule files with alerts.
        since: when Prometheus is started, in seconds since the epoch.

    Raises:
        UsageError: HOP2RAG_RUNBOOK_BASE is no URL.
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

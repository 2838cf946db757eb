"""The links from alerts to their runbooks: paths in the rule files, made absolute for readers outside this checkout.

`python -m workload.services.runbooks https://HOST/PATH` writes them into `prometheus/alerts`, for containers and for
your own Prometheus. A Prometheus that we start gets them from HOP2RAG_RUNBOOK_BASE, else as files of this checkout.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any

import yaml

from workload.errors import Hop2RagError, UsageError
from workload.paths import asset

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

BASE_VARIABLE = "HOP2RAG_RUNBOOK_BASE"
BASE_PATTERN = re.compile(r"(https?|file)://[^\s{}'\"\\]+")
LINK = re.compile(r"(?m)^( *runbook_url: ).*/(\w+\.md)$")


def runbook_base(environ: Mapping[str, str] = os.environ) -> str:
    """Return the runbooks' base URL: $HOP2RAG_RUNBOOK_BASE, else the folder in this checkout.

    Raises:
        UsageError: the variable is not a URL.
    """
    return checked(environ.get(BASE_VARIABLE) or asset("docs/runbooks").resolve().as_uri())


def checked(base: str) -> str:
    """Return a base URL without a trailing slash.

    Raises:
        UsageError: it is not an http(s) or file URL, or Prometheus would read it as a template.
    """
    if not BASE_PATTERN.fullmatch(base):
        raise UsageError(f"The runbooks' address {base!r} is not a URL.", "Write it as https://HOST/PATH.")
    return base.rstrip("/")


def linked(rules: str, base: str) -> str:
    """Return the text of a rule file whose alerts link to the runbooks below `base`."""
    return LINK.sub(lambda found: f"{found[1]}{base}/{found[2]}", rules)


def alerts_on_live_targets(files: Iterable[Path], since: float) -> str:
    """Return the rule groups of `files` as one file; its alerts ignore targets last scraped before `since`.

    An alert without a `run` label, such as one on Prometheus itself, is unchanged. Links to runbooks become absolute.

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


def main(arguments: Sequence[str], folder: Path | None = None) -> int:
    """Rewrite the links in a folder of rule files, by default the shipped one."""
    try:
        (given,) = arguments
        base = checked(given)
    except (ValueError, Hop2RagError) as error:
        print(f"usage: python -m workload.services.runbooks https://HOST/PATH ({error})", file=sys.stderr)
        return UsageError.exit_code
    for path in sorted((folder or asset("prometheus/alerts")).glob("*.yml")):
        path.write_text(linked(path.read_text(), base))
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

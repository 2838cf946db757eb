"""The doctor's findings: how they are printed, and their exit code."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from rich.text import Text

from workload.errors import DependencyDownError, Hop2RagError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console


Level = Literal["ok", "note", "fault"]
STYLES: dict[Level, str] = {"ok": "green", "note": "yellow", "fault": "bold red"}


@dataclass(frozen=True)
class Finding:
    """The state of one part of the system.

    Attributes:
        part: "vLLM", "Prometheus" or "Grafana".
        subject: the aspect, such as a fact's key in `prometheus/vllm_metrics.yaml`.
        level: `ok`; `note` for something correct that is worth knowing; `fault` for something to repair.
        remedy: what to do, or "" for nothing.
    """

    part: str
    subject: str
    level: Level
    says: str
    remedy: str = ""


def down(part: str, error: Hop2RagError) -> Finding:
    """Return the finding that a part does not answer, from its error."""
    return Finding(part, "answers", "fault", error.cause, error.remedy)


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 0 without faults, else the exit code of a dependency that is down."""
    return DependencyDownError.exit_code if any(finding.level == "fault" for finding in findings) else 0


def show(console: Console, findings: Sequence[Finding]) -> None:
    """Print every note and fault, and one line per part for all that is well.

    Lines are not wrapped, however narrow the terminal: names and commands are for copying.
    """
    for part, group in groupby(findings, key=lambda finding: finding.part):
        mine = list(group)
        for finding in (each for each in mine if each.level != "ok"):
            _line(console, finding.level, f"{part}, {finding.subject}: {finding.says}")
            if finding.remedy:
                _line(console, "", finding.remedy)
        if well := [finding for finding in mine if finding.level == "ok"]:
            said = "; ".join(finding.says for finding in well if finding.subject in {"version", "caching", "health"})
            _line(console, "ok", f"{part}: {len(well)} checks{f' ({said})' if said else ''}")


def _line(console: Console, level: Level | Literal[""], text: str) -> None:
    # Text, not markup: findings quote servers.
    console.print(Text.assemble((f"{level:<6}", STYLES[level] if level else ""), text), soft_wrap=True)

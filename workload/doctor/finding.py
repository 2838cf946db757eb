"""One thing the doctor found, the list of all of them, and the exit code they come to."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from rich.text import Text

from workload.errors import DependencyDownError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from workload.errors import Hop2RagError

Level = Literal["ok", "note", "fault"]
STYLES: dict[Level, str] = {"ok": "green", "note": "yellow", "fault": "bold red"}


@dataclass(frozen=True)
class Finding:
    """What one part of the system is like.

    Attributes:
        part: "vLLM", "Prometheus" or "Grafana".
        subject: what about it, such as a fact's key in `prometheus/vllm_metrics.yaml`.
        level: `ok`; `note` for what is as it must be here but is worth knowing; `fault` for what must be mended.
        says: what was found.
        remedy: what to do, or "" when nothing is to be done.
    """

    part: str
    subject: str
    level: Level
    says: str
    remedy: str = ""


def down(part: str, error: Hop2RagError) -> Finding:
    """Return the finding that a part does not answer, from the error that told so."""
    return Finding(part, "answers", "fault", error.cause, error.remedy)


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 0 without faults, else that of a dependency that is down or cannot be used."""
    return DependencyDownError.exit_code if any(finding.level == "fault" for finding in findings) else 0


def show(console: Console, findings: Sequence[Finding]) -> None:
    """Print everything worth a look; what is well in a part takes one line together.

    Nothing is cut or broken, however narrow the terminal is: names and commands are there to be copied.
    """
    for part, group in groupby(findings, key=lambda finding: finding.part):
        mine = list(group)
        for finding in (each for each in mine if each.level != "ok"):
            _line(console, finding.level, f"{part}, {finding.subject}: {finding.says}")
            if finding.remedy:
                _line(console, "", finding.remedy)
        if well := [finding for finding in mine if finding.level == "ok"]:
            told = "; ".join(finding.says for finding in well if finding.subject in {"version", "caching", "health"})
            _line(console, "ok", f"{part}: {len(well)} checks{f' ({told})' if told else ''}")


def _line(console: Console, level: Level | Literal[""], text: str) -> None:
    # Text, not markup: servers' own words are among the findings.
    console.print(Text.assemble((f"{level:<6}", STYLES[level] if level else ""), text), soft_wrap=True)

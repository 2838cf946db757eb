"""What a soak prints when it has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workload.report.console import say
from workload.report.page import REPORT
from workload.soak.summary import verdicts

if TYPE_CHECKING:
    from rich.console import Console

    from workload.soak.reporting import FinishedSoak


def show(console: Console, finished: FinishedSoak) -> None:
    """Print the verdicts, and where the report is."""
    say(console, f"soak, run {finished.run_id}", "bold")
    for sentence in verdicts(finished.summary):
        say(console, f"- {sentence}")
    say(console, f"Report: {finished.bundle / REPORT}", wraps=False)
    if finished.summary["status"] != "finished":
        say(console, f"Go on with: hop2rag soak --resume {finished.run_id}", wraps=False)

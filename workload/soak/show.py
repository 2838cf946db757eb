"""What a soak prints when it has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workload.report import REPORT
from workload.soak.summary import verdicts

if TYPE_CHECKING:
    from rich.console import Console

    from workload.soak.reporting import FinishedSoak


def show(console: Console, finished: FinishedSoak) -> None:
    """Print the verdicts, and where the report is."""
    console.print(f"[bold]soak, run {finished.run_id}[/]")
    for sentence in verdicts(finished.summary):
        console.print(f"- {sentence}", highlight=False, markup=False)
    console.print(f"Report: {finished.bundle / REPORT}", soft_wrap=True)
    if finished.summary["status"] != "finished":
        console.print(f"Go on with: hop2rag soak --resume {finished.run_id}", soft_wrap=True, highlight=False)

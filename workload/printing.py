"""What a finished run prints: the headline numbers and where the figures are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from workload.report import REPORT, verdicts_of

if TYPE_CHECKING:
    from rich.console import Console

    from workload.experiment import Study
    from workload.run import Finished


def print_finished(console: Console, experiment: Study, finished: Finished) -> None:
    """Print the headline table, then the files."""
    table = Table(title=f"{experiment.name}, run {finished.run_id}", title_justify="left")
    for column in experiment.columns:
        table.add_column(column)
    for row in experiment.headline(finished.summary):
        table.add_row(*row)
    console.print(table)
    if origin := finished.summary.get("replay_of"):
        console.print(f"REPLAY of {origin}: the timing is real, the texts are recorded.", style="bold")
    print_verdicts(console, experiment, finished)
    console.print("Files:")
    for path in finished.files:
        console.print(f"  {path}", soft_wrap=True)
    console.print(f"Report: {finished.bundle / REPORT}", soft_wrap=True)
    console.print(f"Everything behind it: {finished.bundle}", soft_wrap=True)


def print_verdicts(console: Console, experiment: Study, finished: Finished) -> None:
    """Print what a reader must know about a run, a sentence a line."""
    console.print(f"[bold]{experiment.title}[/]")
    for sentence in verdicts_of(experiment, finished.summary):
        console.print(f"- {sentence}", highlight=False, markup=False)

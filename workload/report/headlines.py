"""What a finished run prints: the headline numbers and where the figures are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from exporter.plain_text import plain
from workload.report.console import say
from workload.report.page import REPORT, marks_of, verdicts_of

if TYPE_CHECKING:
    from rich.console import Console

    from workload.experiment import Study
    from workload.record.results import Finished


def print_finished(console: Console, experiment: Study[Any], finished: Finished) -> None:
    """Print the headline table, then the files."""
    title = Text(plain(f"{experiment.name}, run {finished.run_id}"))
    table = Table(title=title, title_justify="left")
    for column in experiment.columns:
        table.add_column(Text(plain(column)))
    for row in experiment.headline(finished.summary):
        table.add_row(*(Text(plain(cell)) for cell in row))
    console.print(table)
    for mark in marks_of(finished):
        say(console, mark, "bold")
    print_verdicts(console, experiment, finished)
    say(console, "Files:")
    for path in finished.files:
        say(console, f"  {path}", wraps=False)
    say(console, f"Report: {finished.bundle / REPORT}", wraps=False)
    say(console, f"Everything behind it: {finished.bundle}", wraps=False)


def print_verdicts(console: Console, experiment: Study[Any], finished: Finished) -> None:
    """Print what a reader must know about a run, one sentence per line."""
    say(console, experiment.title, "bold")
    for sentence in verdicts_of(experiment, finished.summary):
        say(console, f"- {sentence}")

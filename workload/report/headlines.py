"""What a finished run prints: the headline numbers and where the figures are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from exporter.plain_text import plain
from workload.report.console import say
from workload.report.page import REPORT, marks_of, verdicts_of
from workload.report.serving import SERVED, tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from workload.experiment import Study
    from workload.record.results import Finished


def print_finished(console: Console, experiment: Study[Any], finished: Finished) -> None:
    """Print the headline table, then the files."""
    title = f"{experiment.name}, run {finished.run_id}"
    print_table(console, title, experiment.columns, experiment.headline(finished.summary))
    for columns, rows in tables(finished.summary.get("serving") or ()):
        print_table(console, SERVED, columns, rows)
    for mark in marks_of(finished):
        say(console, mark, "bold")
    print_verdicts(console, experiment, finished)
    say(console, "Files:")
    for path in finished.files:
        say(console, f"  {path}", wraps=False)
    say(console, f"Report: {finished.bundle / REPORT}", wraps=False)
    say(console, f"Everything behind it: {finished.bundle}", wraps=False)


def print_table(console: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table of plain text."""
    table = Table(title=Text(plain(title)), title_justify="left")
    for column in columns:
        table.add_column(Text(plain(column)))
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    console.print(table)


def print_verdicts(console: Console, experiment: Study[Any], finished: Finished) -> None:
    """Print what a reader must know about a run, one sentence per line."""
    say(console, experiment.title, "bold")
    for sentence in verdicts_of(experiment, finished.summary):
        say(console, f"- {sentence}")

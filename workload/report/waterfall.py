"""A question's waterfall on the console."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.bar import Bar
from rich.table import Table
from rich.text import Text

from exporter.plain_text import plain
from workload.analysis.waterfall import CALL, NOT_TOLD
from workload.errors import UsageError
from workload.report.console import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from workload.analysis.waterfall import Waterfall
    from workload.record.results import Row, RunData

BAR_CHARS = 24


def find_questions(data: RunData, question: str) -> Sequence[Row]:
    """Return the rows of a question, one per arm, block and load.

    Raises:
        UsageError: the run has no such question.
    """
    found = [row for row in data.questions if row["question_id"] == question]
    if not found:
        known = sorted({row["question_id"] for row in data.questions})
        some = f"It has {len(known)}, such as {', '.join(known[:3])}." if known else "It has none."
        raise UsageError(f"The run has no question {question!r}.", some)
    return found


def print_waterfall(console: Console, shown: Waterfall) -> None:
    """Print the parts of a question in order, those within a node indented."""
    say(console, f"{shown['question']}, {shown['arm']}, {shown['load']}: {shown['seconds']:.3f} s", "bold")
    table = Table("", "hop", "starts at", "seconds", "", "", box=None)
    for part in shown["parts"]:
        start, seconds = part["start_seconds"], part["seconds"]
        table.add_row(
            Text(plain(("  " if part["inside"] else "") + part["name"])),
            "" if part["hop"] is None else str(part["hop"]),
            f"{start:.3f}",
            f"{seconds:.3f}",
            Bar(shown["seconds"] or 1.0, start, start + seconds, width=BAR_CHARS),
            Text(plain(part["note"]), "dim"),
        )
    console.print(table)
    if any(part["name"] == CALL for part in shown["parts"]):
        say(console, NOT_TOLD, "dim")

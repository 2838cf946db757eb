"""A panel's answers as CSV: one row for each value, so that any program can read it."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING

from workload.files.csv_cells import cell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workload.export.answers import Answer


def to_csv(answers: Sequence[Answer]) -> str:
    """Return `series`, a column for each label, `time` in seconds since the epoch, `value`; gaps are left out."""
    names = sorted({name for answer in answers for name in answer.labels if name != "__name__"})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["series", *names, "time", "value"])
    for answer in answers:
        labels = [cell(answer.labels.get(name, "")) for name in names]
        for time, value in zip(answer.times.tolist(), answer.values.tolist(), strict=True):
            if not math.isnan(value):
                writer.writerow([answer.line.legend or answer.line.query.name, *labels, f"{time:.3f}", repr(value)])
    return text.getvalue()

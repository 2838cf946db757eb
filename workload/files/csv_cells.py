"""Cells of CSV files. A spreadsheet takes some texts for formulas, so these are quoted."""

from __future__ import annotations

from typing import Any

# The last four are the full-width forms of the first four.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
QUOTE = "'"
"""A spreadsheet shows the rest of the cell as text."""


def cell(value: Any) -> Any:
    """Return the cell of a value: a text that would be a formula is quoted; a number stays a number."""
    if not isinstance(value, str):
        return value
    text = value.replace("\r", "\n")  # `csv` quotes a line feed, but starts a new row at a bare return
    return f"{QUOTE}{text}" if text.startswith((*FORMULA_STARTS, QUOTE)) and not _is_number(text) else text


def text_in(written: str) -> str:
    """Return the text from which `cell` made a cell."""
    return written.removeprefix(QUOTE)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text and text == text.strip()

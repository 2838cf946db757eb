"""Cells of the CSV files that people open in a spreadsheet, which takes some texts for formulas."""

from __future__ import annotations

from typing import Any

# The last four are the first four as East Asian keyboards write them.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
QUOTE = "'"
"""A spreadsheet shows what follows it as text."""


def cell(value: Any) -> Any:
    """Return what is written for a value: a text that would be a formula is quoted, a number is a number."""
    if not isinstance(value, str):
        return value
    text = value.replace("\r", "\n")  # `csv` quotes a line feed, and takes what follows a bare return for a row
    return f"{QUOTE}{text}" if text.startswith((*FORMULA_STARTS, QUOTE)) and not _is_number(text) else text


def text_in(written: str) -> str:
    """Return the text of which `cell` made what is written."""
    return written.removeprefix(QUOTE)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text and text == text.strip()

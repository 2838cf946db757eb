"""docs/faults.md is the table of faults: each row names its tests, and they are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "docs" / "faults.md").read_text()
ROWS = {
    int(match[1]): re.findall(r"`(tests/[^`]+\.py)`", match[2])
    for match in re.finditer(r"^\| (\d+) \|(.*)\|$", TABLE, re.MULTILINE)
}
LAST = 31
TEST = re.compile(r"test_rows?_((?:\d\d_)(?:and_\d\d_)?)")


def range_of(path: Path) -> set[int]:
    """Return the rows after which a file's tests are named."""
    names = (
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    found = (match[1] for name in names if (match := TEST.match(name)))
    return {int(row) for rows in found for row in re.findall(r"\d\d", rows)}


FOUND = {str(path.relative_to(ROOT)): range_of(path) for path in sorted((ROOT / "tests").rglob("test_*.py"))}


def test_no_row_is_missing() -> None:
    """Without this test a row could vanish from the table unnoticed."""
    assert list(ROWS) == list(range(1, LAST + 1))


@pytest.mark.parametrize("row", range(1, LAST + 1))
def test_a_row_names_the_files_that_test_it(row: int) -> None:
    """A row without a test is a promise; a test that the table does not name is not found."""
    assert ROWS[row]
    assert set(ROWS[row]) == {name for name, rows in FOUND.items() if row in rows}

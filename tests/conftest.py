"""What holds for all tests: which of them make up the fault suite, and what a property is about."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import settings

# A property is about results; how long an example took on a busy machine is not one.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

FAULTS = Path(__file__).parent / "faults"
ROW = re.compile(r"test_row_\d\d_")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the fault suite: all of tests/faults, and the tests elsewhere that are named after a row of its table."""
    for item in items:
        if item.path.is_relative_to(FAULTS):
            item.add_marker("faults")
        elif ROW.match(item.name):
            item.add_marker("faults")
            item.add_marker("quick")

"""What a soak may be asked to do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workload.errors import UsageError
from workload.soak.plan import load_plan, seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"), [("8h", 28_800), ("90m", 5400), ("1h30m", 5400), ("45s", 45), ("1d", 86_400), ("0.5s", 0.5)]
)
def test_durations_are_written_as_people_write_them(text: str, seconds: float) -> None:
    """Users type 8h, not 28800."""
    assert load_plan({"duration": text}).duration == seconds


@pytest.mark.parametrize("text", ["", "8", "8 h", "-1h", "h", "0s", "31d", "1m1h", "٣h", "1e3s", "nan"])
def test_row_20_other_durations_are_refused_by_name(text: str) -> None:
    """`8` would be eight seconds to one reader and eight hours to the other."""
    with pytest.raises(UsageError, match=r"--duration = .* is not possible"):
        load_plan({"duration": text})


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("concurrency", 0),
        ("concurrency", 1025),
        ("rate", -1.0),
        ("rate", float("nan")),
        ("rate", 1e9),
        ("questions", 0),
    ],
)
def test_row_20_values_out_of_range_are_refused_by_name(flag: str, value: float) -> None:
    """A hostile or mistyped number must not reach the load."""
    with pytest.raises(UsageError, match=f"--{flag} = "):
        load_plan({"duration": "1m", flag: value})


@given(st.text())
def test_no_text_crashes_the_parser(text: str) -> None:
    """A duration is read or refused with a sentence."""
    try:
        assert float(seconds_of(text)) >= 0
    except ValueError as error:
        assert "8h" in str(error)  # noqa: PT017 - any text may be right

"""Numbers in words."""

from __future__ import annotations

import pytest

from workload.analysis.wording import ABSENT, interval, number, percent, size


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "not known"),
        (12, "12 B"),
        (1536, "1.5 KiB"),
        (137 * 2**30, "137 GiB"),
        (0, "0 B"),
        (1010 * 1024, "1010 KiB"),
    ],
)
def test_sizes_are_written_with_their_unit(value: float | None, text: str) -> None:
    """GiB and GB differ by 7 %, which is more than device memory moves."""
    assert size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0123456, "0.0123"), (99.94, "99.9"), (100, "100"), (12345.6, "12,346"), (-250, "-250")],
)
def test_three_digits_and_no_more(value: float, text: str) -> None:
    """Six digits of a median of twenty questions claim a precision that was not measured."""
    assert number(value) == text


def test_the_absent_is_said_in_words() -> None:
    """An empty cell or a 0 would each be read as a measurement."""
    assert {number(None), percent(None), percent(None, signed=True)} == {ABSENT}
    assert interval(None).strip() == "no CI"


def test_shares_and_intervals() -> None:
    """A change carries its sign, a share does not, and bounds are written like what they bound."""
    assert (percent(0.3333), percent(0.05, signed=True), percent(-0.05)) == ("33.3%", "+5.0%", "-5.0%")
    assert interval((0.1, 0.2), percent).strip() == "[10.0%, 20.0%]"

"""Closed label sets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exporter.labels import OTHER, LabelSet


def test_known_values_are_kept_and_overflow_is_other() -> None:
    """Fault row 5: the 10,000th name must not become the 10,000th series."""
    labels = LabelSet(3, known=("decide",))
    assert [labels.admit(value) for value in ("decide", "a", "b", "c", "a")] == ["decide", "a", "b", OTHER, "a"]


@given(st.lists(st.text(), max_size=50))
def test_what_is_admitted_is_plain_and_bounded(values: list[str]) -> None:
    """Whatever comes in, a label is short ASCII without quotes or line ends, so an exposition cannot be forged."""
    labels = LabelSet(5)
    admitted = {labels.admit(value) for value in values}
    assert len(admitted) <= 6
    assert all(value.isascii() and value.isprintable() and '"' not in value for value in admitted)

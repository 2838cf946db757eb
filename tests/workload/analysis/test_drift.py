"""Which arms have the decode time a token as their control, and what else may move it there."""

from __future__ import annotations

import pytest

from workload.analysis.drift import control_of


@pytest.mark.parametrize(
    ("different", "points", "expected"),
    [
        ({"prefix_caching"}, ["c1"], ""),
        ({"retrieval", "prefetch"}, ["c1"], ""),
        ({"layout"}, ["c1"], ", or contexts of another length"),
        ({"prefix_caching"}, ["c1", "c8"], ", or work for other questions"),
        ({"prefix_caching"}, ["r0.5"], ", or work for other questions"),
        ({"prefix_caching", "max_num_seqs"}, ["c1"], None),
    ],
)
def test_the_control_is_one_only_where_nothing_else_moves_it(
    different: set[str], points: list[str], expected: str | None
) -> None:
    """With several at a time a cache shortens the decoding of others: called drift, the effect would be hidden."""
    assert control_of(frozenset(different), points) == expected

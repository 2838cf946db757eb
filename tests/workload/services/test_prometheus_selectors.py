"""Escaping of label values: no part of a file name or an arm name can become PromQL."""

from __future__ import annotations

import promql_parser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workload.promql.selectors import label_matcher, selector


@given(value=st.text(st.characters(exclude_categories=["Cs"])))
def test_a_value_parses_back_to_itself(value: str) -> None:
    """The oracle is a PromQL parser of its own: whatever the value, the query is one selector with that one value."""
    parsed = promql_parser.parse(selector("up", {"arm": value}))
    assert isinstance(parsed, promql_parser.VectorSelector)
    assert [(m.name, m.value) for m in parsed.matchers.matchers] == [("arm", value)]


def test_labels_are_sorted() -> None:
    """Equal selectors must be equal strings, or goldens and caches of queries differ by chance."""
    assert selector("vllm:x_total", {"job": "vllm", "arm": 'a"b'}) == 'vllm:x_total{arm="a\\"b",job="vllm"}'
    assert selector("up", {}) == "up"


@pytest.mark.parametrize("name", ["", "1a", 'a"', "a-b", "a\n"])
def test_malformed_names_are_refused(name: str) -> None:
    """Names come from our own tables, so a malformed one is a mistake in the code, found at once."""
    with pytest.raises(ValueError, match="is not a"):
        label_matcher(name, "x")
    with pytest.raises(ValueError, match="is not a"):
        selector(name, {})


def test_a_lone_surrogate_is_refused() -> None:
    """It cannot be sent as UTF-8; the failure belongs here, not in the HTTP library."""
    with pytest.raises(UnicodeEncodeError):
        label_matcher("arm", "\ud800")

"""What properties of parsers draw from: JSON of any shape, objects of nearly the right one, documents cut short."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from exporter.errors import ActionableError

if TYPE_CHECKING:
    from collections.abc import Callable

# A folder that lasts for all examples of a test is what these tests want.
many = settings(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
JSON_VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
RAW = st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))


def shaped(*names: str, values: st.SearchStrategy[Any] = JSON_VALUES) -> st.SearchStrategy[dict[str, Any]]:
    """Return objects that have some of these keys, and now and then another."""
    keys = st.sampled_from(names) | st.text(max_size=6)
    return st.dictionaries(keys, values, max_size=len(names) + 1)


def as_json(values: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """Return JSON documents, whole or cut short, or any other bytes."""
    whole = values.map(lambda value: json.dumps(value).encode())
    return whole | st.tuples(whole, st.integers(0, 40)).map(lambda pair: pair[0][: pair[1]]) | RAW


def answer(parse: Callable[[], Any], *errors: type[Exception]) -> Any:
    """Return what a parser returns, or None when it refuses in one line."""
    try:
        return parse()
    except errors as error:
        refusal = error
    if isinstance(refusal, ActionableError):
        assert str(refusal)
        assert "\n" not in str(refusal)
    return None

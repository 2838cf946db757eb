"""PromQL selectors as text: label values are escaped here, and nowhere is a query glued together from raw values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

METRIC_PATTERN = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL_PATTERN = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")

# Of what is measured, and of what has no phase: servers of others, and recordings from before there was one.
NOT_WARM_UP = 'phase!="warmup"'

ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def label_matcher(name: str, value: str, op: Literal["=", "!=", "=~", "!~"] = "=") -> str:
    """Return `name="value"` with the value escaped, so that no value can end the string and add PromQL of its own.

    For `=~` and `!~` the value is a regular expression; `re.escape` what is to be taken literally.

    Raises:
        ValueError: `name` is no Prometheus label name, or the value cannot be sent as UTF-8 (a lone surrogate).
    """
    if not LABEL_PATTERN.fullmatch(name):
        raise ValueError(f"{name!r} is not a label name")
    value.encode()
    return f'{name}{op}"{value.translate(ESCAPES)}"'


def selector(metric: str, labels: Mapping[str, str], *more: str) -> str:
    """Return `metric{a="x",b="y"}`, labels sorted by name so that equal selectors are equal strings.

    `more` are matchers as `label_matcher` returns them; they come last.

    Raises:
        ValueError: the metric or a label name is malformed.
    """
    if not METRIC_PATTERN.fullmatch(metric):
        raise ValueError(f"{metric!r} is not a metric name")
    matchers = ",".join([*(label_matcher(name, value) for name, value in sorted(labels.items())), *more])
    return f"{metric}{{{matchers}}}" if matchers else metric

"""The fast encoder is the library's encoder, only faster."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Enum,
    Gauge,
    Histogram,
    Info,
    Metric,
    PlatformCollector,
    ProcessCollector,
    Summary,
    generate_latest,
)

from exporter.web.pages import encode_text

NAMES = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,20}", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)


class Families:
    """Serves given families."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        """Return them."""
        return self._families


@st.composite
def families(draw: st.DrawFn) -> Metric:
    """Draw a family of any type with samples of any value, label and timestamp."""
    kinds = ["counter", "gauge", "summary", "histogram", "gaugehistogram", "unknown", "info", "stateset"]
    family = Metric(draw(NAMES), draw(TEXTS), draw(st.sampled_from(kinds)))
    for _ in range(draw(st.integers(0, 4))):
        suffix = draw(st.sampled_from(["", "_total", "_created", "_gsum", "_gcount", "_bucket", "_info"]))
        family.add_sample(
            family.name + suffix,
            draw(st.dictionaries(NAMES, TEXTS, max_size=3)),
            draw(st.floats()),
            draw(st.none() | st.floats(0, 2e9)),
        )
    return family


@given(st.lists(families(), max_size=4))
def test_any_family_is_encoded_as_the_library_does(drawn: list[Metric]) -> None:
    """Our own encoder is acceptable only while its output equals that of the library."""
    assert encode_text(Families(drawn)) == generate_latest(Families(drawn))


def test_the_librarys_own_instruments_are_encoded_as_it_does() -> None:
    """Every instrument, creation times included."""
    registry = CollectorRegistry(target_info={"service": "x"})
    Counter("c", 'A "counter".\nTwo lines.', ["l"], registry=registry).labels('q"\\\n').inc()
    Gauge("g", "A gauge.", registry=registry).set(math.inf)
    Histogram("h", "A histogram.", registry=registry).observe(1e9)
    Summary("s", "A summary.", registry=registry).observe(2)
    Info("i", "An info.", registry=registry).info({"k": "v"})
    Enum("e", "A state.", states=["a", "b"], registry=registry)
    PlatformCollector(registry)
    assert encode_text(registry) == generate_latest(registry)
    ProcessCollector(registry=registry)
    assert b"process_open_fds" in encode_text(registry)


def test_a_label_that_is_no_utf_8_costs_no_page() -> None:
    """A lone surrogate, which a server's JSON may contain, turned each scrape into a 500."""
    registry = CollectorRegistry()
    Gauge("g", "A gauge.", ["l"], registry=registry).labels("a\ud800b").set(1)
    assert b'g{l="a?b"} 1.0' in encode_text(registry)

"""Every shape of an app, asked in every way, is reported as the server and the app know it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.exporter.langgraph.conformance import WAYS, findings_of
from tests.exporter.langgraph.shapes import ALL

if TYPE_CHECKING:
    from tests.exporter.langgraph.shapes import Shape
    from tests.stubs.vllm import StubVllm


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", ALL, ids=[shape.name for shape in ALL])
@pytest.mark.filterwarnings("ignore::langgraph.warnings.LangGraphDeprecatedSinceV10")
def test_the_report_is_right(shape: Shape, way: str, counting: StubVllm) -> None:
    """People build apps of these shapes; a handler that is wrong about one of them is wrong about theirs."""
    assert findings_of(shape, way, counting) == []


def test_there_are_enough_shapes() -> None:
    """A suite that shrinks proves less each time, and nobody notices."""
    assert len(ALL) >= 30
    assert len(WAYS) == 7

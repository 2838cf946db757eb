"""An empty record of a GPU, and where its raw log counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from exporter.gpu.latest import Clock, GpuRecord

if TYPE_CHECKING:
    from tests.exporter.conftest import FakeDevice, FakeTime


@pytest.fixture
def record(device: FakeDevice, fake_time: FakeTime) -> GpuRecord:
    """Return an empty record."""
    return GpuRecord(device, Clock(fake_time.monotonic, fake_time.wall, fake_time.sleep), depth=6000)


@pytest.fixture
def registry() -> CollectorRegistry:
    """Return where the log counts."""
    return CollectorRegistry()

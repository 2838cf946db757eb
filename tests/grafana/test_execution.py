"""Fourth layer: every query of every dashboard, asked of a real Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.grafana.execution import failures
from workload.dashboards.catalogue import DASHBOARDS

if TYPE_CHECKING:
    from workload.prometheus import PrometheusClient


@pytest.mark.prometheus
@pytest.mark.parametrize("uid", [dashboard.uid for dashboard in DASHBOARDS])
def test_every_query_finds_data(uid: str, dashboards: dict[str, dict[str, Any]], prometheus: PrometheusClient) -> None:
    """An empty panel looks like a quiet system; nothing else tells that its query was wrong."""
    assert failures(dashboards[uid], prometheus) == []

"""Fourth layer: every query of every dashboard, asked of a real Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.grafana.execution import failures, of_panel
from tests.grafana.lint import panels
from workload.dashboards.catalogue import DASHBOARDS

if TYPE_CHECKING:
    from tests.grafana.execution import Shown
    from workload.prometheus import PrometheusClient

pytestmark = pytest.mark.prometheus
# What a host without a GPU, a run without a failure, and a recording of the series that figures read do not have.
NO_FAILURE = {"Alerts that fired"}
NO_FAILURE_BY_REASON = "What fails?"
NOT_RECORDED = {"Time of a scrape, the slowest of each job", "Samples of a scrape by job", "Rows of the raw log"}
EMPTY_WITHOUT_GPU = {"no GPU", "no errors"}


@pytest.mark.parametrize("uid", [dashboard.uid for dashboard in DASHBOARDS])
def test_every_query_finds_data(
    uid: str, dashboards: dict[str, dict[str, Any]], filled: tuple[PrometheusClient, Shown]
) -> None:
    """An empty panel looks like a quiet system; nothing else tells that its query was wrong."""
    assert failures(dashboards[uid], *filled) == []


@pytest.mark.parametrize("uid", [dashboard.uid for dashboard in DASHBOARDS])
def test_a_recorded_run_fills_every_panel(
    uid: str, dashboards: dict[str, dict[str, Any]], recorded_run: tuple[PrometheusClient, Shown]
) -> None:
    """What a real run leaves in Prometheus is what panels are for; those that stay empty are known and say why."""
    for panel in panels(dashboards[uid]):
        is_without_gpu = panel["fieldConfig"]["defaults"]["noValue"] in EMPTY_WITHOUT_GPU
        is_silent = is_without_gpu or panel["title"] in NO_FAILURE | NOT_RECORDED
        silent = len(panel["targets"]) if is_silent else int(panel["title"] == NO_FAILURE_BY_REASON)
        assert len(list(of_panel(panel, *recorded_run))) == silent, panel["title"]

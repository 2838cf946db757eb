"""How many kinds of faults the dashboard tests catch that nobody had in mind while writing them."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest

from tests.grafana.contract import breaches
from tests.grafana.execution import failures
from tests.grafana.further_faults import FURTHER_FAULTS, JUDGED_FAULTS
from tests.grafana.invented_faults import INVENTED_FAULTS
from tests.grafana.lint import lint, panels
from tests.grafana.meaning import faults
from tests.grafana.schema import violations
from tests.grafana.test_dashboards import test_an_empty_panel_speaks, test_frame

if TYPE_CHECKING:
    from tests.grafana.execution import Shown
    from workload.services.prometheus import PrometheusClient

    Json = dict[str, Any]
    Known = dict[str, dict[str, set[str]]]

# When the fifteen were seeded for the first time, the tests caught 2; of the seventeen of the review they caught none.
# Of the ten invented last they caught 1; two came with their rules.
ALL = FURTHER_FAULTS | JUDGED_FAULTS | INVENTED_FAULTS


def of_frame(name: str, dashboard: Json) -> list[str]:
    """Return what the tests of the frame say of a dashboard."""
    try:
        test_frame(name, {name: dashboard})
        test_an_empty_panel_speaks(name, {name: dashboard})
    except AssertionError as error:
        return [str(error)]
    return []


@pytest.mark.prometheus
@pytest.mark.parametrize("prometheus", ["found"], indirect=True, scope="session")
@pytest.mark.parametrize("fault", ALL)
def test_a_fault_of_another_kind_is_seen(
    fault: str,
    dashboards: dict[str, Json],
    known: Known,
    filled: tuple[PrometheusClient, Shown],
) -> None:
    """A change of the generator makes faults of kinds that no list has: the rate says how far to trust the tests."""
    for name, dashboard in dashboards.items():
        copy = deepcopy(dashboard)
        if not ALL[fault](copy):
            continue
        changed = [new for new, old in zip(panels(copy), panels(dashboard), strict=True) if new != old]
        only_changed = {**copy, "panels": changed}
        assert (
            faults(copy)
            or of_frame(name, copy)
            or breaches(copy, known)
            or lint(copy)
            or violations(copy)
            or failures(only_changed, *filled)
        ), name


@pytest.mark.parametrize("fault", ALL)
def test_a_fault_occurs(fault: str, dashboards: dict[str, Json]) -> None:
    """A fault that can be seeded nowhere would count as caught."""
    assert any(ALL[fault](deepcopy(dashboard)) for dashboard in dashboards.values())

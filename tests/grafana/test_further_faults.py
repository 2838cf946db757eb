"""How many kinds of faults the dashboard tests catch that nobody had in mind while writing them."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest

from tests.grafana.contract import breaches
from tests.grafana.execution import failures
from tests.grafana.further_faults import FURTHER_FAULTS
from tests.grafana.lint import lint
from tests.grafana.schema import violations
from tests.grafana.test_dashboards import test_an_empty_panel_speaks, test_frame

if TYPE_CHECKING:
    from tests.grafana.execution import Shown
    from workload.services.prometheus import PrometheusClient

    Json = dict[str, Any]
    Known = dict[str, dict[str, set[str]]]

# Those that the tests caught when the faults were seeded for the first time: 2 of 15.
CAUGHT = {"a query is asked an hour earlier", "a dead source reads 0"}


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
@pytest.mark.parametrize("fault", FURTHER_FAULTS)
def test_a_fault_of_another_kind_is_seen(
    fault: str,
    dashboards: dict[str, Json],
    known: Known,
    filled: tuple[PrometheusClient, Shown],
    request: pytest.FixtureRequest,
) -> None:
    """A change of the generator makes faults of kinds that no list has: the rate says how far to trust the tests."""
    if fault not in CAUGHT:
        request.applymarker(pytest.mark.xfail(reason="no rule sees this kind yet", strict=True))
    for name, dashboard in dashboards.items():
        copy = deepcopy(dashboard)
        if not FURTHER_FAULTS[fault](copy):
            continue
        without_execution = [*lint(copy), *violations(copy), *breaches(copy, known), *of_frame(name, copy)]
        changed = [new for new, old in zip(copy["panels"], dashboard["panels"], strict=True) if new != old]
        only_changed = {**copy, "panels": changed}
        assert without_execution or failures(only_changed, *filled), name


@pytest.mark.parametrize("fault", FURTHER_FAULTS)
def test_a_fault_occurs(fault: str, dashboards: dict[str, Json]) -> None:
    """A fault that can be seeded nowhere would count as caught."""
    assert any(FURTHER_FAULTS[fault](deepcopy(dashboard)) for dashboard in dashboards.values())

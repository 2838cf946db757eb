"""What holds for all tests: which of them make up the fault suite, what a property is about, which Prometheus runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import settings

from workload.paths import cache_dir
from workload.services.prometheus_binary import FOLDER_VARIABLE, PrometheusBinary, find_prometheus

# A property is about results; how long an example took on a busy machine is not one.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

FAULTS = Path(__file__).parent / "faults"
ROW = re.compile(r"test_row_\d\d_")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the fault suite: all of tests/faults, and the tests elsewhere that are named after a row of its table."""
    for item in items:
        if item.path.is_relative_to(FAULTS):
            item.add_marker("faults")
        elif ROW.match(item.name):
            item.add_marker("faults")
            item.add_marker("quick")
    # The longest files first, so that none runs alone at the end: the engine's, then those that wait for a Prometheus.
    waiting = {item.path for item in items if item.get_closest_marker("prometheus")}
    items.sort(key=lambda item: (item.get_closest_marker("engine") is None, item.path not in waiting))


@pytest.fixture(scope="session", params=["found", "newer"])
def prometheus(request: pytest.FixtureRequest) -> PrometheusBinary:
    """Return the Prometheus that the project finds, and the next major release where a machine has it beside that."""
    if request.param == "found":
        return find_prometheus(cache_dir())
    folder = cache_dir() / "prometheus-newer" / "usr" / "bin"
    if not folder.is_dir():
        pytest.skip("no Prometheus 3 here: `sh tests/prometheus/newer.sh ~/.cache/hop2rag/prometheus-newer` unpacks it")
    return find_prometheus(cache_dir(), {FOLDER_VARIABLE: str(folder)})

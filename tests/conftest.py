"""For all tests: which are the fault suite, which share a process, how long a property may take, which Prometheus."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from workload.paths import cache_dir
from workload.services.prometheus_binary import FOLDER_VARIABLE, PrometheusBinary, find_prometheus

if TYPE_CHECKING:
    from xdist.remote import Producer

# A property is about results; how long an example took on a busy machine is not one.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

FAULTS = Path(__file__).parent / "faults"
# Their session fixtures take seconds to make: in one process each of them is made once.
TOGETHER = ("tests/grafana/", "tests/workload/corpus/", "tests/workload/kv_cache/")
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
    # The longest scopes first, so that none runs alone at the end: the folders, and what waits for a Prometheus.
    longest = {scope_of(item.nodeid) for item in items if item.get_closest_marker("prometheus")} | {*TOGETHER}
    items.sort(key=lambda item: scope_of(item.nodeid) not in longest)


def scope_of(test: str) -> str:
    """Return what runs in one process: a test's file, or its folder."""
    return next((folder for folder in TOGETHER if test.startswith(folder)), test.partition("::")[0])


class Scopes(LoadScopeScheduling):
    """Gives each process one scope after the other."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scopes:
    """Distribute the tests by scope, in the order in which they were collected."""
    config.option.loadscopereorder = False
    return Scopes(config, log)


@pytest.fixture(scope="session", params=["found", "newer"])
def prometheus(request: pytest.FixtureRequest) -> PrometheusBinary:
    """Return the Prometheus that the project finds, and the next major release too where a machine has it."""
    if request.param == "found":
        return find_prometheus(cache_dir())
    folder = cache_dir() / "prometheus-newer" / "usr" / "bin"
    if not folder.is_dir():
        pytest.skip("no Prometheus 3 here: `sh tests/prometheus/newer.sh ~/.cache/hop2rag/prometheus-newer` unpacks it")
    return find_prometheus(cache_dir(), {FOLDER_VARIABLE: str(folder)})

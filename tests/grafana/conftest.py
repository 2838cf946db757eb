"""The committed dashboards, what they may read, and a Prometheus to ask."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.grafana.execution import Shown
from tests.grafana.expositions import TESTS
from tests.grafana.expositions import known as exposed
from tests.grafana.reference import BARE, END, SHOWN_FROM, serving
from workload.dashboards.files import FOLDER
from workload.demo.recording import find_recordings
from workload.demo.server import serve
from workload.paths import asset, cache_dir
from workload.services.process import free_port
from workload.services.prometheus_binary import find_prometheus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workload.demo.recording import Recording
    from workload.services.prometheus import PrometheusClient
    from workload.services.prometheus_binary import PrometheusBinary

    Known = dict[str, dict[str, set[str]]]

RECORDED = [recording for recording in find_recordings(TESTS / "fixtures" / "reference-run") if recording.runs]


@pytest.fixture(scope="session")
def dashboards() -> dict[str, dict[str, Any]]:
    """Return the committed dashboards by uid."""
    return {path.stem: json.loads(path.read_text()) for path in FOLDER.glob("*.json")}


@pytest.fixture(scope="session")
def known() -> Known:
    """Return the values of each label of every name that something exposes or records."""
    return exposed()


@pytest.fixture(scope="session")
def asked(dashboards: dict[str, dict[str, Any]], known: Known) -> set[str]:
    """Return the exposed names that the dashboards and the rules read."""
    texts = json.dumps(dashboards) + "".join(path.read_text() for path in asset("prometheus").glob("[ra]*/*.yml"))
    return known.keys() & set(re.findall(r"[a-zA-Z_][\w:]*", texts))


@pytest.fixture(scope="session")
def filled(
    prometheus: PrometheusBinary, asked: set[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[PrometheusClient, Shown]]:
    """Return a Prometheus that holds all that the dashboards and the rules read, and what the rules record."""
    with serving(prometheus, tmp_path_factory.mktemp("prometheus"), asked) as client:
        yield client, Shown(SHOWN_FROM, END)


@pytest.fixture(scope="session")
def filled_by_others(
    asked: set[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[PrometheusClient, Shown]]:
    """Return one that holds the same of a server and an agent without a run, an experiment and an arm."""
    folder = tmp_path_factory.mktemp("others")
    with serving(find_prometheus(cache_dir()), folder, asked, BARE) as client:
        yield client, Shown(SHOWN_FROM, END)


@pytest.fixture(scope="session", params=RECORDED, ids=lambda recording: recording.folder.name)
def recorded_run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[PrometheusClient, Shown, Recording]]:
    """Return a Prometheus that holds a reference run, the time of it, and the recording."""
    recording: Recording = request.param
    folder = tmp_path_factory.mktemp("recorded")
    with serve([recording], find_prometheus(cache_dir()), folder, free_port()) as client:
        yield client, Shown(recording.start, recording.end), recording

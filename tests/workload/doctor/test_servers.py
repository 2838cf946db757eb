"""The doctor on servers that are well, ill or not there: each state has its words, its remedy and its exit code."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
from requests.adapters import BaseAdapter
from rich.console import Console

from workload.dashboards.catalogue import DASHBOARDS
from workload.doctor.finding import Finding, exit_code, show
from workload.doctor.servers import examine, examine_grafana, examine_prometheus, examine_vllm
from workload.services.prometheus import PrometheusClient

NEWEST = (Path(__file__).parents[2] / "fixtures" / "vllm_eras" / "0.32.0.prom").read_text()


def http_client(answers: dict[str, httpx.Response | Exception]) -> httpx.Client:
    """Return a client of a server that answers by path."""

    def answer(request: httpx.Request) -> httpx.Response:
        found = answers.get(request.url.path, httpx.Response(404))
        if isinstance(found, Exception):
            raise found
        return found

    return httpx.Client(base_url="http://stub:8000", transport=httpx.MockTransport(answer))


def vllm(metrics: str = NEWEST, version: str = "0.32.0") -> httpx.Client:
    """Return a client of a vLLM."""
    return http_client(
        {"/metrics": httpx.Response(200, text=metrics), "/version": httpx.Response(200, json={"version": version})}
    )


def test_a_vllm_that_is_well() -> None:
    """Release and facts, nothing else."""
    findings = list(examine_vllm(vllm()))
    assert findings[0] == Finding("vLLM", "version", "ok", "vLLM 0.32.0")
    assert exit_code(findings) == 0


@pytest.mark.parametrize(
    ("metrics", "says"),
    [
        (httpx.ConnectError("refused"), r"is unreachable \(ConnectError"),
        (httpx.ReadTimeout("late"), r"is unreachable \(ReadTimeout"),
        (httpx.Response(401), "HTTP 401"),
        (httpx.Response(200, text="<html>a shop</html>"), "not an exposition"),
        (httpx.Response(200, text="up 1\n"), "nothing of vLLM"),
    ],
)
def test_an_address_that_is_no_vllm(metrics: httpx.Response | Exception, says: str) -> None:
    """Each has another remedy, and all of them the exit code of a dependency that cannot be used."""
    findings = list(examine_vllm(http_client({"/metrics": metrics})))
    assert re.search(says, findings[-1].says)
    assert findings[-1].remedy
    assert exit_code(findings) == 4


@pytest.mark.parametrize(
    "version", [httpx.Response(404), httpx.Response(200, text="dev"), httpx.Response(200, json={"version": "dev"})]
)
def test_an_unknown_release_is_no_fault(version: httpx.Response) -> None:
    """A gateway may hide /version while every metric is there."""
    client = http_client({"/metrics": httpx.Response(200, text=NEWEST), "/version": version})
    findings = list(examine_vllm(client))
    assert (findings[0].subject, findings[0].level) == ("version", "note")
    assert exit_code(findings) == 0


class StubPrometheus(BaseAdapter):
    """Answers as Prometheus' API does, with what the test puts in."""

    def __init__(self, **data: Any) -> None:
        super().__init__()
        watchdog = {"metric": {"alertname": "Hop2RagWatchdog"}, "value": [0, "1"]}
        self.data: dict[str, Any] = {
            "buildinfo": {"version": "2.42.0+ds"},
            "flags": {"web.enable-lifecycle": "false", "web.cors.origin": "^$", "rules.alert.resend-delay": "1s"},
            "query": {"resultType": "vector", "result": [watchdog]},
            "targets": {"activeTargets": [target("vllm", "")]},
        } | data

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        """Answer without a network."""
        endpoint = str(request.path_url).partition("?")[0].rpartition("/")[2]
        response = requests.Response()
        response.status_code = 200
        response._content = json.dumps({"status": "success", "data": self.data[endpoint]}).encode()
        return response

    def close(self) -> None:
        """Nothing to close."""


def target(job: str, error: str) -> dict[str, Any]:
    """Return a target as Prometheus lists it."""
    return {"labels": {"job": job, "instance": "h:1"}, "lastError": error}


def prometheus(**data: Any) -> PrometheusClient:
    """Return a client of a Prometheus that differs from a healthy one by `data`."""
    session = requests.Session()
    session.mount("http://stub", StubPrometheus(**data))
    return PrometheusClient("http://stub:9090", session)


@pytest.mark.parametrize(
    ("data", "subject", "level", "says"),
    [
        ({}, "version", "ok", r"Prometheus 2\.42\.0"),
        ({"buildinfo": {"version": "2.52.0"}}, "version", "fault", "loses the others"),
        ({"buildinfo": {"version": "2.53.1"}}, "version", "fault", "loses the others"),
        ({"buildinfo": {"version": "2.53.2"}}, "version", "ok", "2.53.2"),
        ({"buildinfo": {"version": "2.41.0"}}, "version", "fault", "refuses our alerts"),
        ({"buildinfo": {"version": "3.5.0"}}, "version", "ok", "3.5.0"),
        ({"buildinfo": {"version": "main"}}, "version", "note", "not a version"),
        ({"flags": {"web.enable-lifecycle": "true"}}, "web.enable-lifecycle", "note", "'true'"),
        ({"flags": {"web.cors.origin": ".*"}}, "web.cors.origin", "note", r"'\.\*'"),
        ({"flags": {"rules.alert.resend-delay": "1m"}}, "rules.alert.resend-delay", "note", "'1m'"),
        ({"query": {"resultType": "vector", "result": []}}, "rules", "fault", "not evaluated"),
        ({"targets": {"activeTargets": [target("vllm", "refused")]}}, "target", "fault", "vllm at h:1 failed: refused"),
        ({"targets": {"activeTargets": [target("vllm-fast", "late")]}}, "target", "note", "late"),
        ({"buildinfo": {}}, "answers", "fault", "not as Prometheus does"),
    ],
)
def test_prometheus_is_examined(data: dict[str, Any], subject: str, level: str, says: str) -> None:
    """Each of these leaves panels or alerts empty, or worse, wrong; none shows by itself."""
    findings = list(examine_prometheus(prometheus(**data)))
    (finding,) = (each for each in findings if each.subject == subject)
    assert finding.level == level
    assert re.search(says, finding.says)
    assert level == "ok" or finding.remedy
    assert exit_code(findings) == (4 if level == "fault" else 0)


def test_a_prometheus_that_is_not_there() -> None:
    """No server listens on port 9."""
    with requests.Session() as session:
        session.trust_env = False
        (finding,) = examine_prometheus(PrometheusClient("http://127.0.0.1:9", session, timeout_s=2.0))
    assert (finding.level, finding.subject) == ("fault", "answers")
    assert "hop2rag up" in finding.remedy


@pytest.mark.parametrize(
    ("health", "level", "says"),
    [
        (httpx.Response(200, json={"database": "ok", "version": "12.4.0"}), "ok", "Grafana 12.4.0"),
        (httpx.Response(200, json={"database": "ok"}), "ok", "unknown version"),
        (httpx.Response(503, json={"database": "failing", "version": "12.4.0"}), "fault", "failing"),
        (httpx.Response(404, text="no"), "fault", "HTTP 404"),
        (httpx.Response(200, json=[]), "fault", "not as Grafana does"),
        (httpx.ConnectError("refused"), "fault", "ConnectError"),
    ],
)
def test_grafana_is_examined(health: httpx.Response | Exception, level: str, says: str) -> None:
    """A Grafana that starts, and one whose database is locked, both answer HTTP."""
    finding = next(iter(examine_grafana(http_client({"/api/health": health}))))
    assert finding.level == level
    assert says in finding.says


HAS_ALL = [{"uid": dashboard.uid} for dashboard in DASHBOARDS]


@pytest.mark.parametrize(
    ("search", "settings", "levels"),
    [
        (HAS_ALL, {"rendererAvailable": True}, ["ok", "ok", "ok"]),
        (HAS_ALL[1:], {"rendererAvailable": False}, ["ok", "fault", "note"]),
        ({"message": "Unauthorized"}, {}, ["ok", "note"]),
        (None, {}, ["ok", "note"]),
    ],
)
def test_what_grafana_is_provisioned_with_is_examined(
    search: Any, settings: dict[str, bool], levels: list[str]
) -> None:
    """A folder that was not mounted leaves Grafana healthy and empty; without a token neither can be read."""
    answers = {
        "/api/health": httpx.Response(200, json={"database": "ok", "version": "12.4.0"}),
        "/api/search": httpx.Response(401 if search is None else 200, json=search),
        "/api/frontend/settings": httpx.Response(200, json=settings),
    }
    findings = list(examine_grafana(http_client(answers)))
    assert [finding.level for finding in findings] == levels
    assert all(finding.remedy for finding in findings if finding.level != "ok")
    assert "overview" in findings[1].says or levels[1] != "fault"


@pytest.mark.parametrize("width", [20, 80, 400])
def test_what_is_not_well_is_shown_in_full(width: int) -> None:
    """What servers say is shown as they said it, brackets too, and what must be copied is whole in every terminal."""
    ill = NEWEST.replace("vllm:kv_cache_usage_perc", "vllm:pool_usage")
    grafana = http_client({"/api/health": httpx.Response(503, json={"database": "[bold]locked"})})
    findings = [*examine_vllm(vllm(ill)), *examine(prometheus(), grafana)]
    console = Console(file=io.StringIO(), width=width)
    show(console, findings)
    shown = console.file.getvalue() if isinstance(console.file, io.StringIO) else ""
    for finding in findings:
        assert finding.level == "ok" or (finding.says in shown and finding.remedy in shown)
    assert "[bold]locked" in shown
    assert "vLLM 0.32.0" in shown
    assert "\u2026" not in shown
    assert exit_code(findings) == 4
    assert exit_code([*examine_vllm(vllm()), *examine(prometheus())]) == 0

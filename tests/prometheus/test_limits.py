"""What one target may cost: the limits on every scrape job, and a real Prometheus beside targets that break them."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.stubs.target import ScrapeTarget
from workload.compose.configs import contents
from workload.doctor.servers import examine_prometheus
from workload.paths import asset
from workload.services.process import free_port
from workload.services.prometheus import NoDataError
from workload.services.prometheus_server import LocalPrometheus, loopback_session, render_config
from workload.services.targets import ArmLabels

if TYPE_CHECKING:
    from pathlib import Path

    from workload.services.prometheus import PrometheusClient
    from workload.services.prometheus_binary import PrometheusBinary

LIMITS = ("body_size_limit", "sample_limit", "label_limit", "label_name_length_limit", "label_value_length_limit")
EXCEEDED = (
    "prometheus_target_scrapes_exceeded_body_size_limit_total",
    "prometheus_target_scrapes_exceeded_sample_limit_total",
    "prometheus_target_scrape_pool_exceeded_label_limits_total",
)
RULE_COUNTERS = ("prometheus_rule_evaluation_failures_total", "prometheus_rule_group_iterations_missed_total")
WELL = "vllm:num_requests_running 1\n"
PAGES = {
    "well": WELL,
    "body": WELL + "# " + "x" * 5_000_000 + "\n",
    "samples": "".join(f'x{{a="{number}"}} 1\n' for number in range(60_000)),
    "labels": WELL + "x{" + ",".join(f'l{number}="1"' for number in range(100)) + "} 1\n",
    "name": WELL + f'x{{{"n" * 300}="1"}} 1\n',
    "value": WELL + f'x{{a="{"v" * 3000}"}} 1\n',
}
PATIENCE_SECONDS = 60.0


def configurations() -> dict[str, dict[str, Any]]:
    """Return every configuration of Prometheus that we ship or write, by where it is used."""
    template = asset("prometheus/prometheus.yml")
    rendered = render_config(template, targets=template.parent, port=9090, sample_interval_ms=100)
    texts = {"host": rendered, "shipped": template.read_text(), "compose": contents()["prometheus.yml"]}
    return {name: yaml.safe_load(text) for name, text in texts.items()}


@pytest.mark.parametrize("used", ["host", "shipped", "compose"])
def test_row_28_every_job_has_every_limit(used: str) -> None:
    """Of the jobs one is enough: a target that shows a label for each request fills memory and disk in minutes."""
    for job in configurations()[used]["scrape_configs"]:
        assert all(job.get(limit) for limit in LIMITS), job["job_name"]


def value(client: PrometheusClient, query: str) -> float:
    """Return the one value of a query; -1 without any."""
    try:
        return client.query(query)[0].value
    except NoDataError:
        return -1.0


@pytest.mark.prometheus
def test_row_28_a_target_beyond_a_limit_costs_its_own_scrape(prometheus: PrometheusBinary, tmp_path: Path) -> None:
    """And somebody is told: by an alert, and by the doctor, which names the target and the limit."""
    with ExitStack() as stack:
        addresses = {
            name: stack.enter_context(ScrapeTarget(lambda _, page=page: page)).address for name, page in PAGES.items()
        }
        server = stack.enter_context(LocalPrometheus(prometheus, tmp_path, loopback_session(), port=free_port()))
        server.targets.write(ArmLabels("r", "e", "a"), workload=list(addresses.values()))
        client, deadline = server.client, time.monotonic() + PATIENCE_SECONDS
        told = 'ALERTS{alertname="ScrapeTooLarge",alertstate="firing"}'
        while time.monotonic() < deadline and value(client, told) < 0:
            time.sleep(0.2)
        assert value(client, told) == 1
        for name in EXCEEDED:
            assert value(client, f"max({name})") > 0, name
        for name in RULE_COUNTERS:
            assert value(client, f"max({name})") >= 0, name
        up = {name: value(client, f'up{{job="workload",instance="{at}"}}') for name, at in addresses.items()}
        assert up == {name: float(name == "well") for name in PAGES}
        assert value(client, "prometheus_tsdb_head_series") < 60_000
        faults = {each.says: each.remedy for each in examine_prometheus(client) if each.level == "fault"}
        for name, address in addresses.items():
            says = [text for text in faults if f"workload at {address} " in text]
            assert [("limit" in text, "ScrapeTooLarge" in faults[text]) for text in says] == [(True, True)] * (
                name != "well"
            )

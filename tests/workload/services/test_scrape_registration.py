"""No alert on what has ended: not after an orderly end, and not after a kill that left no mark of it."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

import psutil
import pytest
import yaml

from tests.stubs.target import ScrapeTarget
from tests.stubs.waiting import until
from workload.errors import DependencyDownError
from workload.paths import asset, cache_dir
from workload.services.process import free_port
from workload.services.prometheus import NoDataError, PrometheusClient
from workload.services.prometheus_binary import find_prometheus
from workload.services.prometheus_server import LocalPrometheus, loopback_session
from workload.services.rule_files import alerts_on_live_targets, bases_of_this_host, linked
from workload.services.scrape_registration import leaving, scraped, stop_scraping
from workload.services.targets import JOBS, ArmLabels, TargetFiles

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RUN = ArmLabels("ended", "soak", "prefix-on")
ALERTS = sorted(asset("prometheus/prometheus.yml").parent.glob("alerts/*.yml"))
EVALUATIONS = 12
"""So many seconds: what is down is told after five."""


def target() -> ScrapeTarget:
    """Return what is an engine and an agent at once."""
    return ScrapeTarget(lambda _: 'vllm:prompt_tokens_total 1\nhop2rag_vllm_info{version="1"} 1\n')


@pytest.fixture
def prometheus(tmp_path: Path) -> Callable[[], LocalPrometheus]:
    """Return a factory of the same Prometheus, started again and again on the same data."""
    port, binary = free_port(), find_prometheus(cache_dir())
    return lambda: LocalPrometheus(binary, tmp_path, loopback_session(), port=port)


def found(server: LocalPrometheus, query: str) -> set[str]:
    """Return the names of the alerts that a query finds; "" for what is no alert."""
    try:
        return {sample.labels.get("alertname", "") for sample in server.client.query(query)}
    except NoDataError:
        return set()


@pytest.mark.prometheus
def test_a_run_that_was_killed_fires_nothing_later(prometheus: Callable[[], LocalPrometheus]) -> None:
    """Its last samples say that all is down, and nothing says that they ended: a page at night for a dead run."""
    server = prometheus()
    with target() as ended:
        server.start()
        at = ended.address
        server.targets.write(RUN, vllm=[f"http://{at}"], exporter=[at], workload=[at])
        until(lambda: found(server, 'count(up{run="ended"} == 1) > 3'))
    until(lambda: found(server, 'count(up{run="ended"} == 0) > 3'))
    assert server.child
    psutil.Process(server.child.pid).kill()  # as a power cut does
    server.child.stop()
    server._port.release()  # as the kernel does when we die
    again = prometheus()
    again.start()
    began = time.time()
    try:
        assert found(again, 'up{run="ended"} == 0'), "a query still finds it, as it would for five minutes"
        watchdog = 'count_over_time(ALERTS{alertname="Hop2RagWatchdog"}[20s])'
        until(lambda: found(again, f"{watchdog} > {EVALUATIONS}"))
        assert found(again, f'timestamp(ALERTS{{run="ended",alertstate="firing"}}) > {began}') == set()
        with target() as alive:
            again.targets.write(ArmLabels("now", "e", "a"), vllm=[f"http://{alive.address}"])
            until(lambda: found(again, 'up{run="now"} == 1'))
        until(lambda: "VllmDown" in found(again, 'ALERTS{run="now",alertstate="firing"}'))
    finally:
        again.stop()


@pytest.mark.prometheus
def test_an_orderly_end_marks_every_series(prometheus: Callable[[], LocalPrometheus]) -> None:
    """What is scraped stops last: no scrape fails, and the next start finds nothing alive."""
    with prometheus() as server, target() as ended:
        at = ended.address
        addresses = {"vllm": [f"http://{at}"], "exporter": [at], "workload": [at]}
        with scraped(server.targets, server.client, RUN, addresses):
            until(lambda: found(server, 'count(up{run="ended"} == 1) == 6'))
        until(lambda: not found(server, 'up{run="ended"}'))
        every = {*JOBS, *JOBS.values()}
        recorded = server.client.query('count by (job) (count_over_time(up{run="ended"}[1m]))')
        assert {sample.labels["job"] for sample in recorded} == every
        # A scrape of a busy machine may time out, after 0.1 s or later; a server that is gone refuses at once.
        refused = (
            'min_over_time((up{run="ended"} + (scrape_duration_seconds{run="ended"} >= bool 0.09))[1m:100ms]) == 0'
        )
        assert not found(server, refused), "and never seen down"
        server.targets.write(RUN, workload=[ended.address])
        until(lambda: found(server, 'up{run="ended",job="workload"} == 1'))
    with prometheus() as server:
        assert not found(server, 'up{run="ended"}'), "the end of Prometheus waits for the marks too"


def test_the_alerts_stay_the_same_but_for_the_dead() -> None:
    """A lost rule, or another `for`, would go unnoticed until it is needed."""
    texts = [linked(path.read_text(), *bases_of_this_host()) for path in ALERTS]
    shipped = [rule for text in texts for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
    joined = [
        rule for group in yaml.safe_load(alerts_on_live_targets(ALERTS, 1.0))["groups"] for rule in group["rules"]
    ]
    assert len(joined) == len(shipped)
    for mine, theirs in zip(joined, shipped, strict=True):
        assert {**mine, "expr": ""} == {**theirs, "expr": ""}
        assert theirs["expr"].strip() in mine["expr"]
        assert ("record" in mine) == (mine["expr"] == theirs["expr"])


def test_the_dead_are_distinguished_from_the_living(tmp_path: Path) -> None:
    """Whatever other labels there are, without a run, and after a killed process of the same run."""
    (tmp_path / "alerts.yml").write_text(alerts_on_live_targets(ALERTS, 60.0))
    alive, gone = "_x12 0x60", "0x6 _x60"
    up = {
        'instance="new:1",run="now",pod="p"': alive,
        'instance="old:1",run="now"': gone,
        'instance="dead:1",run="dead",cluster="c"': gone,
        'instance="none:1"': alive,
    }
    firing = {
        "expr": 'count by (instance) (ALERTS{alertname="ExporterDown",alertstate="firing"})',
        "eval_time": "150s",
        "exp_samples": [{"labels": f'{{instance="{name}"}}', "value": 1} for name in ("new:1", "none:1")],
    }
    test = {
        "interval": "5s",
        "input_series": [
            {"series": f'up{{job="exporter",{labels}}}', "values": values} for labels, values in up.items()
        ],
        "promql_expr_test": [firing],
    }
    text = yaml.safe_dump({"rule_files": ["alerts.yml"], "evaluation_interval": "5s", "tests": [test]})
    (tmp_path / "test.yml").write_text(text)
    argv = [find_prometheus(cache_dir()).promtool, "test", "rules", tmp_path / "test.yml"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_replaced_targets_are_reported_and_left(tmp_path: Path) -> None:
    """An unknown part was not recorded: that run must not end with 0, nor take the other's targets away."""
    mine, other = TargetFiles(tmp_path), TargetFiles(tmp_path)
    client = LocalPrometheus(find_prometheus(cache_dir()), tmp_path, loopback_session(), port=1).client
    mine.write(RUN, workload=["a:1"])
    with pytest.raises(DependencyDownError, match="were replaced"), leaving(mine, client):
        other.write(ArmLabels("second", "soak", "x"), workload=["b:1"])
    assert other.are_ours()


@pytest.mark.parametrize("last", [*JOBS, *JOBS.values()])
def test_what_is_scraped_stops_after_the_last_job_has_left(last: str, tmp_path: Path) -> None:
    """Five of seven recorded arms ended with `up == 0`: the engine stopped while its fast job still scraped it."""
    files = TargetFiles(tmp_path)
    files.write(RUN, vllm=["http://e:1"], exporter=["e:1"], workload=["e:1"])
    active = [{(last, "e:1"): ""}, {(last, "e:1"): ""}, {("prometheus", "p:1"): ""}]

    class Leaving(PrometheusClient):
        def scrape_errors(self) -> dict[tuple[str, str], str]:
            return active.pop(0)

    stop_scraping(files, Leaving("http://prometheus.invalid", loopback_session()))
    assert active == []

"""Our Prometheus, the real one: scraping a stub under an arm's labels, exact to the count, and gone afterwards."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psutil
import pytest
import requests
import yaml

from tests.stubs.target import ScrapeTarget
from workload.errors import DependencyDownError, UsageError
from workload.paths import asset, cache_dir
from workload.promql.selectors import selector
from workload.services.process import free_port
from workload.services.prometheus import CounterResetError, NoDataError, PrometheusError
from workload.services.prometheus_binary import PrometheusBinary, find_prometheus
from workload.services.prometheus_server import LocalPrometheus, render_config
from workload.services.scrape_registration import wait_for_scrapes
from workload.services.targets import ArmLabels

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LABELS = ArmLabels("r1", "vllm-metrics", "prefix-on")
TIMELINE_SAMPLES = 300


class StubTarget(ScrapeTarget):
    """Serves a counter that the test sets, and a timeline of 10 ms samples with their own timestamps."""

    def __init__(self) -> None:
        super().__init__(lambda path: self.timeline() if path == "/metrics/timeline" else self.counters())
        self.tokens = 1000
        self.began_ms = int(time.time() * 1000)

    def counters(self) -> str:
        """Return two counters, one of which the fast job keeps."""
        return f"vllm:prompt_tokens_total {self.tokens}\nvllm:request_success_total {self.tokens}\n"

    def timeline(self) -> str:
        """Return the same 3 s of samples every time, like a ring buffer to which nothing is written any more."""
        return "".join(f"stub_timeline {i} {self.began_ms + 10 * i}\n" for i in range(TIMELINE_SAMPLES))


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """An HTTP session that is closed again."""
    with requests.Session() as session:
        yield session


@pytest.fixture(scope="session")
def binary() -> PrometheusBinary:
    """The real programs."""
    return find_prometheus(cache_dir())


@pytest.mark.prometheus
def test_an_arm_is_measured_exactly_and_nothing_stays(
    binary: PrometheusBinary, tmp_path: Path, session: requests.Session
) -> None:
    """The whole path of a figure: targets, labels, two scrape instants, a difference exact to the token."""
    port = free_port()
    ours = LocalPrometheus(binary, tmp_path, session, port=port)
    with StubTarget() as stub, ours:
        client = ours.client
        assert client.ready()
        assert client.version().startswith(".".join(map(str, binary.version)))
        ours.targets.write(LABELS, vllm=[f"http://{stub.address}"], workload=[stub.address])
        jobs = ("vllm", "vllm-fast", "workload-timeline")
        start = wait_for_scrapes(client, LABELS, {job: [stub.address] for job in jobs}, time.time())
        stub.tokens += 123_457
        end = wait_for_scrapes(client, LABELS, {"vllm": [stub.address]}, time.time())

        labels = LABELS.as_dict() | {"job": "vllm"}
        assert client.counter_delta(selector("vllm:prompt_tokens_total", labels), start, end) == 123_457
        stub.tokens = 5
        restarted = wait_for_scrapes(client, LABELS, {"vllm": [stub.address]}, time.time())
        with pytest.raises(CounterResetError):
            client.counter_delta(selector("vllm:prompt_tokens_total", labels), start, restarted)
        assert client.scrape_errors()["vllm", stub.address] == ""
        kept = {sample.labels["job"] for sample in client.query("vllm:request_success_total")}
        assert kept == {"vllm", "workload"}, "the fast job keeps few series"
        (timeline,) = client.raw("stub_timeline", start - 60, end)
        assert timeline.values.tolist() == list(range(TIMELINE_SAMPLES))
        with pytest.raises(NoDataError):
            client.query("vllm:no_such_metric")
        with pytest.raises(PrometheusError, match="parse error"):
            client.query("up{")

        again = LocalPrometheus(binary, tmp_path, session, port=port, sample_interval_ms=250)
        assert again.start() is False
        again.stop()
        assert client.ready(), "a Prometheus that was reused is left running"
        with pytest.raises(UsageError, match=r"(?s)Another Prometheus.*--prometheus-port"):
            LocalPrometheus(binary, tmp_path / "elsewhere", session, port=port).start()
        ours.targets.clear()
        pid = ours.child.pid if ours.child else 0
        assert psutil.pid_exists(pid)
    assert not psutil.pid_exists(pid)
    assert not ours.client.ready()


@pytest.mark.prometheus
def test_a_start_that_fails_shows_the_end_of_the_log(
    binary: PrometheusBinary, tmp_path: Path, session: requests.Session
) -> None:
    """A damaged or locked data folder is reported in Prometheus' own words, with what to do."""
    port = free_port()
    state = tmp_path / f"prometheus-{port}"
    state.mkdir()
    (state / "data").write_text("not a folder")
    with pytest.raises(DependencyDownError, match=r"(?s)not a directory.*HOP2RAG_CACHE"):
        LocalPrometheus(binary, tmp_path, session, port=port).start()


def test_a_port_of_another_program_is_refused(tmp_path: Path, session: requests.Session) -> None:
    """The message names the flag, since 9090 is a popular port."""
    nowhere = PrometheusBinary(tmp_path / "prometheus", tmp_path / "promtool", (2, 42, 0))
    with StubTarget() as stub, pytest.raises(UsageError, match=r"in use, but not by Prometheus.*--prometheus-port"):
        LocalPrometheus(nowhere, tmp_path, session, port=stub.port).start()


def test_the_rendered_configuration_is_absolute_and_keeps_its_time_outs(tmp_path: Path) -> None:
    """A relative path is relative to the rendered file, not the rules; a time-out over its interval is fatal."""
    text = render_config(asset("prometheus/prometheus.yml"), targets=tmp_path, port=1, sample_interval_ms=50)
    config = yaml.safe_load(text)
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert (jobs["vllm-fast"]["scrape_interval"], jobs["vllm-fast"]["scrape_timeout"]) == ("50ms", "50ms")
    files = {name: job["file_sd_configs"][0]["files"] for name, job in jobs.items() if name != "prometheus"}
    kinds = {name: name.split("-")[0] for name in files}
    assert files == {
        name: [str(tmp_path / f"{kind}.json"), str(tmp_path / f"{kind}-*.json")] for name, kind in kinds.items()
    }
    assert all(pattern.startswith("/") for pattern in config["rule_files"])
    assert jobs["prometheus"]["static_configs"] == [{"targets": ["127.0.0.1:1"]}]

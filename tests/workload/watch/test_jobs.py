"""Jobs for any Prometheus: all of ours that have targets, at the interval that is asked for, with the same limits."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.prometheus.conftest import running
from workload.errors import UsageError
from workload.paths import asset, cache_dir
from workload.services.prometheus_binary import find_prometheus
from workload.watch.jobs import scrape_jobs
from workload.watch.subject import subject

if TYPE_CHECKING:
    from pathlib import Path


def jobs(*, vllm: str = "", workload: str = "", exporter: str = "", **more: Any) -> dict[str, dict[str, Any]]:
    """Return the jobs of a subject by name."""
    return {job["job_name"]: job for job in scrape_jobs(subject(vllm, workload, exporter, **more))}


@pytest.mark.parametrize(("interval", "fast", "timeout"), [("1s", "100ms", "1s"), ("15s", "1500ms", "10s")])
def test_intervals_follow_the_one_that_is_asked_for(interval: str, fast: str, timeout: str) -> None:
    """A timeline tells of three seconds: scraped every fifteen, four fifths of it would be missing."""
    found = jobs(vllm="http://v:8000", workload="a:1", exporter="e:2", scrape_interval=interval)
    shown = {name: job["scrape_interval"] for name, job in found.items()}
    timelines = dict.fromkeys(("exporter-timeline", "workload-timeline"), "1s")
    assert shown == {"vllm": interval, "vllm-fast": fast, "exporter": interval, "workload": interval} | timelines
    assert found["vllm"]["scrape_timeout"] == timeout
    assert found["vllm-fast"]["scrape_timeout"] == fast


def test_limits_paths_and_filters_are_those_of_a_host() -> None:
    """What differs only here is tested nowhere."""
    ours = yaml.safe_load(asset("prometheus/prometheus.yml").read_text())["scrape_configs"]
    timed = {"scrape_interval", "scrape_timeout", "file_sd_configs", "static_configs"}
    found = jobs(vllm="http://v:8000", workload="a:1", exporter="e:2")
    for job in ours:
        if job["job_name"] != "prometheus":
            kept = {key: value for key, value in job.items() if key not in timed}
            assert kept == {key: value for key, value in found[job["job_name"]].items() if key not in timed}


def test_only_what_is_named_is_scraped() -> None:
    """A job without targets is one more that somebody looks for in vain."""
    assert jobs(workload="a:1,b:2", has_timelines=False).keys() == {"workload"}
    found = jobs(vllm="http://v:8000, https://gateway/llm/v1")
    assert found.keys() == {"vllm", "vllm-fast"}
    plain, gateway = found["vllm"]["static_configs"]
    assert plain["targets"] == ["v:8000"]
    assert (gateway["targets"], gateway["labels"]["__metrics_path__"]) == (["gateway:443"], "/llm/metrics")
    assert {plain["labels"]["run"], gateway["labels"]["run"]} == {"live"}


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        ({}, "nothing to watch"),
        ({"vllm": "v:8000"}, "not http or https"),
        ({"vllm": "http://u:p@v"}, "credentials"),
        ({"workload": "http://a:1"}, "not an address"),
        ({"workload": "a:1", "scrape_interval": "1m"}, "not from 1s to 30s"),
    ],
)
def test_what_cannot_be_watched_is_refused(given: dict[str, str], cause: str) -> None:
    """Prometheus would refuse the whole configuration, and stop watching what it has."""
    with pytest.raises(UsageError, match=cause):
        jobs(**given)


@pytest.mark.prometheus
@pytest.mark.parametrize("interval", ["1s", "30s"])
def test_prometheus_accepts_the_jobs(tmp_path: Path, interval: str) -> None:
    """One key that it does not know, and it does not start."""
    found = jobs(vllm="http://v:8000,https://g/llm", workload="a:1", exporter="e:2", scrape_interval=interval)
    file = tmp_path / "prometheus.yml"
    file.write_text(json.dumps({"scrape_configs": [*found.values()]}))
    assert "SUCCESS" in running(find_prometheus(cache_dir()))("check", "config", file)

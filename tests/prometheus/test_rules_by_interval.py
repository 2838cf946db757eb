"""The rules for jobs that are scraped every 1, 15 or 30 s: alerts fire on trouble and keep silent on health at each."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.prometheus.narrowing import read_suite, write_narrowed
from workload.services.rule_files import files_at

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Phases = Sequence[tuple[int, float | None]]  # seconds, and the level of a gauge or the growth of a counter

INTERVALS = (1, 15, 30)
RUN = 'run="r",experiment="e",arm="a"'
ENGINE, AGENT = f'job="vllm",instance="h:8000",{RUN}', f'job="workload",instance="h:9500",{RUN}'
MODEL = f'{ENGINE},model_name="m",engine="0"'
RUNNING, WAITING = (f"vllm:num_requests_{state}{{{MODEL}}}" for state in ("running", "waiting"))
READ, WRITTEN = (f"vllm:{kind}_tokens_total{{{MODEL}}}" for kind in ("prompt", "generation"))
QUERIES, HITS = (f"vllm:prefix_cache_{kind}_total{{{MODEL}}}" for kind in ("queries", "hits"))
PREEMPTIONS = f"vllm:num_preemptions_total{{{MODEL}}}"
FINISHED = f'vllm:request_success_total{{{MODEL},finished_reason="stop"}}'
KV_USAGE = f"vllm:kv_cache_usage_perc{{{MODEL}}}"
UP, INFO = f"up{{{ENGINE}}}", f'hop2rag_vllm_info{{{AGENT},version="0.32.0"}}'
ACTIVE = f'hop2rag_node_active{{{AGENT},node="decide"}}'
VISITS = f'hop2rag_node_duration_seconds_count{{{AGENT},node="decide"}}'
EXPORTER = 'job="exporter",instance="h:9400"'
DISK = f'{{{EXPORTER},volume="results"}}'
OWN_UP, WATCHDOG = 'up{job="prometheus",instance="h:9090"}', 'ALERTS{alertname="Hop2RagWatchdog",alertstate="firing"}'
TOO_LARGE = 'prometheus_target_scrape%s_total{job="prometheus",instance="h:9090"}'
REQUESTS = ((60, 1), (300, 0)) * 3
ANSWERS = ((60, 50), (300, 0)) * 3


def always(level: float) -> Phases:
    """Return the phases of a series that does not change its level, or its growth."""
    return ((1200, level),)


@dataclass(frozen=True)
class Story:
    """What happens to a few series, and at which seconds an alert must be silent and must fire."""

    alert: str
    what: str
    gauges: dict[str, Phases] = field(default_factory=dict)
    counters: dict[str, Phases] = field(default_factory=dict)
    silent: Sequence[int] = ()
    firing: Sequence[int] = ()


HEALTHY = {UP: always(1), RUNNING: always(1), WAITING: always(0), KV_USAGE: always(0.1)}
STORIES = (
    Story(
        "VllmHung",
        "tokens stop",
        {RUNNING: always(4), WAITING: always(0)},
        {READ: ((600, 50), (600, 0)), WRITTEN: ((600, 50), (600, 0))},
        silent=(300, 600, 630),
        firing=(810, 1000),
    ),
    Story(
        "VllmHung",
        "tokens stop before the engine counts a request",
        {RUNNING: always(0), WAITING: always(0), ACTIVE: always(2)},
        {READ: ((600, 50), (600, 0)), WRITTEN: ((600, 50), (600, 0))},
        silent=(300, 600, 630),
        firing=(900, 1000),
    ),
    Story(
        "VllmHung",
        "requests with pauses between them",
        {RUNNING: REQUESTS, WAITING: always(0)},
        {READ: ANSWERS, WRITTEN: ANSWERS},
        silent=(*range(60, 1080, 30), 361, 376, 391, 421, 436, 721),
    ),
    Story(
        "VllmPreemptionStorm",
        "two for each that is finished",
        {},
        {PREEMPTIONS: ((300, 0), (600, 2)), FINISHED: ((900, 1),)},
        silent=(150, 300),
        firing=(600, 800),
    ),
    Story(
        "VllmPreemptionStorm",
        "one for each ten that are finished",
        {},
        {PREEMPTIONS: ((900, 0.3),), FINISHED: ((900, 3),)},
        silent=(300, 600, 800),
    ),
    Story(
        "VllmHitRateCollapsed",
        "from a half to a twentieth",
        {},
        {QUERIES: ((2700, 1000),), HITS: ((2100, 500), (600, 50))},
        silent=(1500, 2100),
        firing=(2400,),
    ),
    Story(
        "VllmHitRateCollapsed",
        "from a half to a third",
        {},
        {QUERIES: ((2700, 1000),), HITS: ((2100, 500), (600, 333))},
        silent=(1500, 2100, 2250, 2400),
    ),
    Story("VllmDown", "a server that answers", {UP: always(1), INFO: always(1)}, silent=tuple(range(30, 1200, 45))),
    Story("VllmDown", "scrapes fail", {UP: ((300, 1), (600, 0))}, silent=(290,), firing=(360, 800)),
    Story(
        "VllmDown",
        "the target leaves while its agent goes on",
        {UP: ((300, 1), (600, None)), INFO: always(1)},
        silent=(290,),
        firing=(420, 500),
    ),
    Story(
        "VllmQueueGrowing",
        "by one each second",
        {WAITING: ((300, 0), *((30, 30 * n) for n in range(20)))},
        firing=(720,),
    ),
    Story("VllmQueueGrowing", "a plateau", {WAITING: always(40)}, silent=(300, 600, 900)),
    Story(
        "VllmKvCacheNearlyFull",
        "full while requests wait",
        {KV_USAGE: ((300, 0.5), (600, 0.99)), WAITING: ((300, 0), (600, 2))},
        silent=(300, 330),
        firing=(480, 800),
    ),
    Story("VllmKvCacheNearlyFull", "full and nothing waits", HEALTHY | {KV_USAGE: always(0.99)}, silent=(300, 900)),
    Story(
        "VllmMetricsMissing",
        "healthy",
        HEALTHY,
        {READ: always(90), WRITTEN: always(9), PREEMPTIONS: always(0)},
        silent=(300, 900),
    ),
    Story(
        "VllmMetricsMissing", "no counter of preemptions", HEALTHY, {READ: always(9), WRITTEN: always(9)}, firing=(900,)
    ),
    Story("WorkloadStalled", "no visit ends", {ACTIVE: always(2)}, {VISITS: ((300, 1), (900, 0))}, (290,), (510, 900)),
    Story("WorkloadStalled", "visits end", {ACTIVE: always(2)}, {VISITS: always(1)}, (300, 600, 900)),
    Story(
        "DiskFilling",
        "full within the hour",
        {f"hop2rag_host_filesystem_size_bytes{DISK}": always(1e11)},
        {f"hop2rag_host_filesystem_avail_bytes{DISK}": ((1, 1.9e10), (900, -1e7))},
        silent=(60, 90),
        firing=(240, 600),
    ),
    Story(
        "DiskWritesFailing",
        "nothing is stored",
        {OWN_UP: ((600, 1), (600, None)), WATCHDOG: ((600, 1), (600, None))},
        silent=(300, 600),
        firing=(810, 880),
    ),
    Story(
        "DiskWritesFailing",
        "all is stored",
        {OWN_UP: always(1), WATCHDOG: always(1)},
        silent=tuple(range(60, 1200, 30)),
    ),
    Story(
        "ExporterRawLogFailing",
        "an error a second",
        {},
        {f"hop2rag_exporter_raw_log_write_errors_total{{{EXPORTER}}}": ((300, 0), (300, 1))},
        silent=(300,),
        firing=(420,),
    ),
    Story(
        "SamplerLate",
        "one in ten missed",
        {},
        {
            f"hop2rag_exporter_samples_missed_total{{{EXPORTER}}}": ((300, 0), (300, 10)),
            f"hop2rag_exporter_sample_interval_seconds_count{{{EXPORTER}}}": ((600, 90),),
        },
        silent=(300,),
        firing=(450,),
    ),
    Story(
        "ScrapeTooLarge",
        "a scrape thrown away each second",
        {},
        {
            TOO_LARGE % "s_exceeded_body_size_limit": ((300, 0), (300, 1)),
            TOO_LARGE % "s_exceeded_sample_limit": ((600, 0),),
            TOO_LARGE % "_pool_exceeded_label_limits": ((600, 0),),
        },
        silent=(300,),
        firing=(420,),
    ),
)


def sampled(phases: Phases, interval_s: int, *, is_counter: bool) -> str:
    """Return a series in promtool's notation, a sample every second of which those of a scrape have a value.

    Scrapes lie between evaluations, as they do in a real Prometheus.
    """
    each_second = [value for seconds, value in phases for _ in range(seconds)]
    total, written = 0.0, []
    for second, value in enumerate(each_second):
        total += value or 0
        is_scraped = second % interval_s == interval_s // 3 and value is not None
        written.append(f"{total if is_counter else value:g}" if is_scraped else "_")
    return " ".join(written)


def asked(story: Story) -> list[dict[str, Any]]:
    """Return what promtool compares: how many alerts of the story's name fire."""
    expression = f'count(ALERTS{{alertname="{story.alert}",alertstate="firing"}}) > bool 0'
    return [
        {"expr": expression, "eval_time": f"{at}s", "exp_samples": [{"labels": "{}", "value": 1}] if fires else []}
        for times, fires in ((story.silent, False), (story.firing, True))
        for at in times
    ]


def as_test(story: Story, interval_s: int) -> dict[str, Any]:
    """Return a story as a rule test."""
    series = [
        {"series": name, "values": sampled(phases, interval_s, is_counter=is_counter)}
        for found, is_counter in ((story.gauges, False), (story.counters, True))
        for name, phases in found.items()
    ]
    name = f"{story.alert}: {story.what}, scraped every {interval_s} s"
    return {"name": name, "interval": "1s", "input_series": series, "promql_expr_test": asked(story)}


def write_suites(interval_s: int, folder: Path) -> list[Path]:
    """Write the rules for a scrape interval and the stories; return the files for promtool."""
    # The heartbeat is fed to them, since what promtool writes never fails.
    files = {
        name: text for name, text in files_at(interval_s).items() if "grafana" not in name and "watchdog" not in name
    }
    rules = [folder / name.replace("/", "-") for name in files]
    for path, text in zip(rules, files.values(), strict=True):
        path.write_text(text)
    suite = {
        "rule_files": [str(path) for path in rules],
        "evaluation_interval": f"{interval_s}s",
        "tests": [as_test(story, interval_s) for story in STORIES],
    }
    (folder / "suite.yml").write_text(json.dumps(suite))
    return list(write_narrowed(read_suite(folder / "suite.yml"), folder))


@pytest.mark.prometheus
def test_alerts_work_at_every_scrape_interval(found_promtool: Callable[..., str], tmp_path: Path) -> None:
    """With windows of ten seconds and a scrape every fifteen, no rate exists and half of the alerts cannot fire."""
    files = []
    for interval in INTERVALS:
        (tmp_path / str(interval)).mkdir()
        files += write_suites(interval, tmp_path / str(interval))
    assert len(files) >= 3 * len({story.alert for story in STORIES})
    found_promtool("test", "rules", *files)

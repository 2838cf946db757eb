"""Each threshold, duration, window and identity of the alerts, from both sides: what a slip in a rule would change.

The suites in alerts/ tell each alert's story; these cases pin its numbers. A change of a number in a rule fails here.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest

from tests.prometheus.narrowing import write_narrowed
from workload.paths import asset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

RUN = 'run="r",experiment="e",arm="a"'
HOST = f'job="exporter",instance="h:9400",{RUN}'
GPU, OTHER_GPU = f'{{{HOST},gpu="0"}}', f'{{{HOST},gpu="1"}}'
OTHER_HOST = f'{{job="exporter",instance="g:9400",{RUN},gpu="0"}}'
AGENT = f'job="workload",instance="h:9500",{RUN}'
PROMETHEUS = '{job="prometheus",instance="h:9090"}'
STEERS, PAGES = 'severity!="page"', 'severity="page"'
FREE, TOTAL = "nvml_memory_free_bytes", "nvml_memory_total_bytes"
MISSED, TAKEN = "hop2rag_exporter_samples_missed_total", "hop2rag_exporter_sample_interval_seconds_count"
AVAILABLE, SIZE = (f"hop2rag_host_filesystem_{kind}_bytes{{{HOST},volume=%s}}" for kind in ("avail", "size"))
GIB = 2**30
UP, WATCHDOG = f"up{PROMETHEUS}", 'ALERTS{alertname="Hop2RagWatchdog",alertstate="firing",severity="none"}'
EXCEEDED = (
    "prometheus_target_scrapes_exceeded_body_size_limit_total",
    "prometheus_target_scrapes_exceeded_sample_limit_total",
    "prometheus_target_scrape_pool_exceeded_label_limits_total",
)
ACTIVE, VISITS, FAILURES = (
    f'hop2rag_node_{kind}{{{AGENT},node="%s"}}' for kind in ("active", "duration_seconds_count", "failures_total")
)
PAUSED = f"hop2rag_soak_paused{{{AGENT}}}"


@dataclass(frozen=True)
class Case:
    """Series in promtool's notation, and the seconds at which an alert must be silent, or fire `times` times."""

    alert: str
    why: str
    series: Mapping[str, str]
    silent: Sequence[int] = ()
    firing: Sequence[int] = ()
    times: int = 1
    labels: str = STEERS
    step: str = "1s"

    def as_test(self) -> dict[str, Any]:
        """Return the case as a rule test."""
        expression = f'count(ALERTS{{alertname="{self.alert}",alertstate="firing",{self.labels}}})'
        asked = [
            {"expr": expression, "eval_time": f"{at}s", "exp_samples": samples}
            for times, samples in ((self.silent, []), (self.firing, [{"labels": "{}", "value": self.times}]))
            for at in times
        ]
        series = [{"series": name, "values": values} for name, values in self.series.items()]
        name = f"{self.alert}: {self.why}"
        return {"name": name, "interval": self.step, "input_series": series, "promql_expr_test": asked}


def one_error(alert: str, counter: str, *, silent: Sequence[int], firing: Sequence[int]) -> Case:
    """Return the case of a counter that rises by one at 101 s."""
    return Case(alert, f"one error, {counter}", {counter: "0x100 1x700"}, silent, firing)


def gpus() -> Iterable[Case]:
    """Yield the cases of exporter.yml."""
    full = "GpuMemoryNearlyFull"
    yield Case(full, "three in a hundred are free", {FREE + GPU: "3x40", TOTAL + GPU: "100x40"}, silent=(30,))
    yield Case(full, "fewer than two are free", {FREE + GPU: "1.5x40", TOTAL + GPU: "100x40"}, firing=(30,))
    two_hosts = {FREE + GPU: "1x40", TOTAL + GPU: "100x40", FREE + OTHER_HOST: "90x40", TOTAL + OTHER_HOST: "900x40"}
    yield Case(full, "of two hosts one is full", two_hosts, firing=(30,))
    gone = {f"nvml_gpu_up{GPU}": "1x20 stale", f"up{{{HOST}}}": "1x700"}
    yield Case("GpuLost", "for ten minutes after it has gone", gone, (640,), (30, 500))
    yield Case("GpuLost", "one of two", gone | {f"nvml_gpu_up{OTHER_GPU}": "1x700"}, firing=(40,))
    phases = {
        f'nvml_gpu_up{{{HOST},gpu="0",phase="{name}"}}': values
        for name, values in (("warmup", "1x20 stale"), ("measured", "_x20 1x60"))
    }
    yield Case("GpuLost", "a phase renames it", phases | {f"up{{{HOST}}}": "1x80"}, silent=(40,))
    both = {name: values.replace("1x60", "1x20 stale") for name, values in phases.items()}
    yield Case("GpuLost", "one that had two phases", both | {f"up{{{HOST}}}": "1x80"}, firing=(60,))
    for alert, counter in (
        ("GpuXidError", "nvml_xid_errors_total"),
        ("GpuEccUncorrected", "nvml_ecc_uncorrected_errors_total"),
    ):
        yield one_error(alert, counter + GPU, silent=(99, 410), firing=(103, 390))
    yield Case("GpuHot", "for three minutes", {f"nvml_temperature_celsius{GPU}": "80x100 86x300"}, (270,), (290,))
    yield Case("GpuHot", "85 degrees", {f"nvml_temperature_celsius{GPU}": "85x400"}, silent=(390,))
    late = "SamplerLate"
    yield Case(late, "six in a thousand", {MISSED + GPU: "0+6x200", TAKEN + GPU: "0+994x200"}, silent=(150,))
    yield Case(late, "fifteen in a thousand", {MISSED + GPU: "0+15x200", TAKEN + GPU: "0+985x200"}, (12,), (20, 150))
    yield Case(late, "for a minute", {MISSED + GPU: "0x99 9x200", TAKEN + GPU: "0+10x300"}, (112, 170), (150,))
    yield Case(late, "one before it hangs", {MISSED + GPU: "0x109 1x100", TAKEN + GPU: "0+10x130 1300x100"}, (168,))
    burst = {MISSED + GPU: "0x99 10000+0.15x200", TAKEN + GPU: "0+10x300"}
    yield Case(late, "after a burst", burst, firing=(240,))
    age = "hop2rag_exporter_sample_age_seconds"
    yield Case("ExporterStale", "four seconds", {age + GPU: "4x40"}, silent=(30,))
    yield Case("ExporterStale", "six seconds", {age + GPU: "6x40"}, (3,), (8,))


def monitoring() -> Iterable[Case]:
    """Yield the cases of monitoring.yml."""
    yield one_error(
        "ExporterRawLogFailing",
        f"hop2rag_exporter_raw_log_write_errors_total{{{HOST}}}",
        silent=(103, 180),
        firing=(110, 155),
    )
    for counter in EXCEEDED:
        series = {each + PROMETHEUS: "0x100 1x700" if each == counter else "0x800" for each in EXCEEDED}
        yield Case("ScrapeTooLarge", counter, series, (103, 180), (110, 155))
    for alert, counter in (
        ("RuleFailing", "prometheus_rule_evaluation_failures_total"),
        ("RuleGroupSlow", "prometheus_rule_group_iterations_missed_total"),
    ):
        yield one_error(alert, counter + PROMETHEUS, silent=(150, 410), firing=(170, 390))
    long, brief = "1x600 _x100", "1x500 _x200"
    for why, series in (("heartbeat", {UP: brief, WATCHDOG: long}), ("scrape", {UP: long, WATCHDOG: brief})):
        for times, labels in (((612, 617), STEERS), ((667, 680), PAGES)):
            silent, firing = times
            yield Case("DiskWritesFailing", f"the {why} last, {labels}", series, (silent,), (firing,), labels=labels)


def writes_at_15_s() -> Iterable[Case]:
    """Yield the cases of DiskWritesFailing with intervals of 15 s; the last samples are at 1935 s and 1830 s."""
    steady, ended = "1x129 _x40", "1x122 _x40"
    for why, series in {
        "four intervals of 15 s, the heartbeat last": {UP: ended, WATCHDOG: steady},
        "four intervals of 15 s, the scrape last": {UP: steady, WATCHDOG: ended},
    }.items():
        for times, labels in (((1990, 2035), STEERS), ((2050, 2100), PAGES)):
            silent, firing = times
            yield Case("DiskWritesFailing", f"{why}, {labels}", series, (silent,), (firing,), labels=labels, step="15s")


def disks() -> Iterable[Case]:
    """Yield the cases of DiskFilling."""

    def volume(name: str, available: str, size: float) -> dict[str, str]:
        return {AVAILABLE % f'"{name}"': available, SIZE % f'"{name}"': f"{size:.0f}x700"}

    def still(gib: float) -> str:
        return f"{gib * GIB:.0f}x100"

    for gib, size, fires in ((1.5, 1000, False), (0.6, 1000, True), (0.5, 7, False), (0.5, 14, True)):
        times = {"firing" if fires else "silent": (30,)}
        yield Case("DiskFilling", f"{gib} of {size} GiB", volume("a", still(gib), size * GIB), **times)
    halves = volume("small", still(0.5), GIB) | volume("large", still(10), 1000 * GIB)
    yield Case("DiskFilling", "a small one that is empty, a large one that is full", halves, silent=(30,))
    # Every ten seconds, with 10 GB and more free of 100 GB: a twentieth of it is 5 GB.
    for why, available, size, times in (
        ("15 % left, full in 50 minutes", "15e9-5e7x120", 1e11, {"firing": (300,)}),
        ("30 % left, full in 50 minutes", "30e9-1e8x120", 1e11, {"silent": (300,)}),
        ("full in 80 minutes", "15e9-3e7x120", 1e11, {"silent": (300,)}),
        ("known for two minutes", "15e9-5e7x120", 1e11, {"silent": (100,), "firing": (200,)}),
        ("by the last ten minutes", "19e9x180 19e9-5e7x70", 1e11, {"firing": (2420,)}),
        ("not by the last three", "19e9x60 19e9-6e7x18", 1e11, {"silent": (785,)}),
    ):
        yield Case("DiskFilling", why, volume("a", available, size), step="10s", **times)
    one = volume("a", "60e9-5e8x120", 1e11) | volume("b", "15e9x120", 1e11)
    yield Case("DiskFilling", "one that falls, one that is low", one, silent=(300,), step="10s")
    young = volume("a", "_x30 15e9-5e7x120", 1e11) | volume("b", "50e9x150", 1e11)
    yield Case("DiskFilling", "one that is new, one that is old", young, silent=(400,), step="10s")
    yield Case(
        "DiskFilling", "for five seconds", volume("a", f"{10 * GIB}x100 {GIB / 2:.0f}x50", 1000 * GIB), (107,), (112,)
    )


def agents() -> Iterable[Case]:
    """Yield the cases of workload.yml."""
    stalled, idle = "WorkloadStalled", "WorkloadIdle"
    stuck = {ACTIVE % "decide": "1x500", VISITS % "decide": "0+1x60 60x440"}
    yield Case(stalled, "one visit", stuck, (212,), (217, 400))
    yield Case(stalled, "two nodes are one agent", stuck | {ACTIVE % "retrieve": "1x500"}, firing=(300,))
    yield Case(stalled, "another node goes on", stuck | {VISITS % "retrieve": "0+1x500"}, silent=(300,))
    yield Case(stalled, "no failure since it started", stuck | {FAILURES % "decide": "0x500"}, firing=(300,))
    yield Case(stalled, "a visit that is gone", stuck | {ACTIVE % "decide": "1x250 0x250"}, silent=(270, 390))
    yield Case(stalled, "a visit of 100 s", stuck | {ACTIVE % "decide": "0x200 1x300"}, silent=(300,))
    failed = stuck | {FAILURES % "decide": "0x260 1x240"}
    yield Case(stalled, "a failure, for 150 s", failed, (262, 400), (420,))
    quiet = {PAUSED: "0x2000", ACTIVE % "decide": "1x100 0x1900", VISITS % "decide": "0+1x100 100x1900"}
    yield Case(idle, "for five minutes", quiet, (402,), (408, 900))
    yield Case(idle, "another node is active", quiet | {ACTIVE % "retrieve": "1x2000"}, silent=(600,))
    yield Case(idle, "another node goes on", quiet | {VISITS % "retrieve": "0+1x2000"}, silent=(600,))
    yield Case(idle, "no failure since it started", quiet | {FAILURES % "decide": "0x2000"}, firing=(600,))
    yield Case(idle, "a failure, for five minutes", quiet | {FAILURES % "decide": "0x600 1x1400"}, (603, 890), (910,))
    yield Case(idle, "a pause, for five minutes", quiet | {PAUSED: "0x300 1x300 0x1000"}, (890,), (910,))


def shipped(cases: Iterable[Case], interval: str) -> dict[str, Any]:
    """Return cases on the rules as shipped as a suite of rule tests."""
    # The heartbeat is fed to the rules, since what promtool writes never fails.
    rules = [path for kind in ("rules", "alerts") for path in sorted(asset(f"prometheus/{kind}").glob("*.yml"))]
    return {
        "rule_files": [str(path) for path in rules if path.stem != "watchdog"],
        "evaluation_interval": interval,
        "group_eval_order": ["vllm", "vllm-latency", "vllm-alerts"],
        "tests": [case.as_test() for case in cases],
    }


def suites() -> Iterator[dict[str, Any]]:
    """Yield all cases of this file; those of minutes are evaluated every five seconds."""
    yield shipped(chain(gpus(), monitoring(), agents()), "1s")
    yield shipped(chain(disks(), writes_at_15_s()), "5s")


def write_suites(suites: Iterable[dict[str, Any]], folder: Path) -> Iterator[Path]:
    """Write suites into folders of their own, narrowed to the rules that they need; yield the files for promtool."""
    for number, suite in enumerate(suites):
        (folder / str(number)).mkdir()
        yield from write_narrowed(suite, folder / str(number))


@pytest.mark.prometheus
def test_each_number_of_an_alert_counts(found_promtool: Callable[..., str], tmp_path: Path) -> None:
    """A threshold twice as high, a window a third as long, a label too few: each changes one of these cases."""
    found_promtool("test", "rules", *write_suites(suites(), tmp_path))

"""Scrape jobs for any Prometheus, from those of `prometheus/prometheus.yml`, which has them for a host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from workload.paths import asset
from workload.services.targets import JOBS, TIMELINES

if TYPE_CHECKING:
    from workload.watch.subject import Subject

SECOND_JOBS = {second: first for first, second in JOBS.items()}
FAST = JOBS["vllm"]
FAST_SHARE = 10
"""How many scrapes of the fast job there are in one interval, as on a host: 100 ms in a second."""


def own_jobs() -> dict[str, dict[str, Any]]:
    """Return our scrape jobs by name, without the one of Prometheus itself, which scrapes itself already."""
    config = yaml.safe_load(asset("prometheus/prometheus.yml").read_text())
    return {job["job_name"]: job for job in config["scrape_configs"] if job["job_name"] != "prometheus"}


def intervals(name: str, job: dict[str, Any], interval_s: int) -> dict[str, str]:
    """Return how often a job scrapes; a timeline tells of the last three seconds, so it is always every second."""
    if name == FAST:
        interval = f"{interval_s * 1000 // FAST_SHARE}ms"
    else:
        interval = "1s" if "honor_timestamps" in job else f"{interval_s}s"
    return {"scrape_interval": interval, "scrape_timeout": min(interval, "10s", key=_milliseconds)}


def _milliseconds(duration: str) -> int:
    return int(duration.removesuffix("ms")) if duration.endswith("ms") else 1000 * int(duration.removesuffix("s"))


def scrape_jobs(subject: Subject) -> list[dict[str, Any]]:
    """Return the scrape jobs of what is watched; a job without targets is left out."""
    targets = subject.targets()
    left_out = () if subject.has_timelines else [JOBS[job] for job in TIMELINES]
    found = []
    for name, job in own_jobs().items():
        groups = targets[SECOND_JOBS.get(name, name)]
        if groups and name not in left_out:
            kept = {key: value for key, value in job.items() if key not in {"file_sd_configs", "job_name"}}
            how_often = intervals(name, job, subject.interval_s)
            found.append({"job_name": name, **how_often, **_without(kept, how_often), "static_configs": groups})
    return found


def _without(job: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {key: value for key, value in job.items() if key not in names}

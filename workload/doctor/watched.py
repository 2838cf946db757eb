"""Says what of a folder of `hop2rag watch` is alive: its agents, its targets in Prometheus, and its rules."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import httpx

from workload.doctor.finding import Finding
from workload.engine.endpoint import check_url, open_client
from workload.errors import Hop2RagError
from workload.promql.scrapes import RECORDED_RATES
from workload.services.prometheus import NoDataError, PrometheusClient, PrometheusError
from workload.services.targets import METRICS_PATH
from workload.watch.jobs import scrape_jobs
from workload.watch.subject import subject_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WATCHED = "Watched"
RATE = re.compile(r"record: (\S+:rate\w+)")


def examine_watched(
    folder: Path, client: PrometheusClient, open_: Callable[[str], httpx.Client] = open_client
) -> Iterator[Finding]:
    """Yield whether each agent and exporter answers, Prometheus scrapes every target, and records our names."""
    subject = subject_of(folder)
    for what, addresses in (("workload", subject.workload), ("exporter", subject.exporter)):
        for address in addresses:
            yield _answers(what, address, open_)
    try:
        yield from _targets(scrape_jobs(subject), client.scrape_errors())
        yield _rates(folder, client)
    except PrometheusError:
        return  # other findings say that it does not answer


def _answers(what: str, address: str, open_: Callable[[str], httpx.Client]) -> Finding:
    try:
        with open_(check_url(f"http://{address}", f"--{what}")) as client:
            text = client.get(METRICS_PATH).raise_for_status().text
    except (httpx.HTTPError, Hop2RagError) as error:
        says = f"http://{address}{METRICS_PATH} does not answer ({type(error).__name__})."
        return Finding(WATCHED, what, "fault", says, "Start it, or correct its address and run `hop2rag watch` again.")
    if "\nhop2rag_" not in f"\n{text}":
        says = f"http://{address}{METRICS_PATH} has no hop2rag_ metric."
        return Finding(
            WATCHED,
            what,
            "fault",
            says,
            f"Name the page of {'a metered agent' if what == 'workload' else 'hop2rag-exporter'}.",
        )
    return Finding(WATCHED, what, "ok", f"{address} answers.")


def _targets(jobs: list[dict[str, Any]], errors: dict[tuple[str, str], str]) -> Iterator[Finding]:
    for job in jobs:
        for group in job["static_configs"]:
            for address in group["targets"]:
                key = job["job_name"], group["labels"].get("instance", address)
                if key in errors:
                    yield Finding(WATCHED, "target", "ok", f"Prometheus scrapes {key[1]} as {key[0]}.")
                else:
                    says = f"Prometheus does not scrape {key[1]} as job {key[0]}."
                    yield Finding(
                        WATCHED, "target", "fault", says, "Load the scrape jobs as the folder's README.md says."
                    )


def _rates(folder: Path, client: PrometheusClient) -> Finding:
    """Return whether Prometheus records rates under the names of this folder's rules, which end in their window."""
    files = [path.read_text() for path in (*folder.glob("prometheus/rules/*.yml"), *folder.glob("rules.yaml"))]
    ours = {name for text in files for name in RATE.findall(text)}
    try:
        recorded = {sample.labels["__name__"] for sample in client.query(RECORDED_RATES)}
    except NoDataError:
        return Finding(
            WATCHED, "rules", "note", "Prometheus records no rate of an engine yet.", "Load the rules; wait."
        )
    if others := sorted(recorded - ours):
        says = f"Prometheus records {others[0]}, which is not of this folder."
        return Finding(WATCHED, "rules", "fault", says, "Load the rules of one scrape interval only.")
    return Finding(WATCHED, "rules", "ok", "Prometheus records this folder's names.")

"""Examines vLLM, Prometheus and Grafana for the doctor."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING

import httpx
from packaging.version import InvalidVersion, Version

from workload.doctor.exposition import PART as VLLM
from workload.doctor.exposition import judge, read_exposition
from workload.doctor.finding import Finding, down
from workload.engine.key import REFUSALS, REMEDY, unanswered
from workload.paths import asset
from workload.promql.annotations import TAG
from workload.promql.scrapes import WATCHDOG
from workload.promql.vllm_facts import load_facts
from workload.services.prometheus import NoDataError, PrometheusClient, PrometheusError
from workload.services.prometheus_binary import LOSES_SAMPLES

if TYPE_CHECKING:
    from collections.abc import Iterator


PROMETHEUS, GRAFANA = "Prometheus", "Grafana"
OLDEST_PROMETHEUS = (2, 42, 0)
"""The first version with `keep_firing_for`, which the alerts use."""

OFTEN_LATE = "vllm-fast"
"""A job with a scrape time-out of 0.1 s: on a busy host a scrape may fail now and then."""


def examine(prometheus: PrometheusClient, grafana: httpx.Client | None = None) -> list[Finding]:
    """Return all findings on Prometheus and Grafana; a server that does not answer is a finding, never an error.

    The `base_url` of `grafana` is its checked address (`engine.endpoint.open_client`), and it sends the token; without
    it Grafana is skipped.
    """
    found = [*examine_prometheus(prometheus)]
    return found if grafana is None else [*found, *examine_grafana(grafana)]


def examine_vllm(client: httpx.Client) -> Iterator[Finding]:
    """Yield vLLM's release and a finding for each fact of the table; its `base_url` is the checked address."""
    server = str(client.base_url).rstrip("/")
    try:
        metrics, release, models = (client.get(path) for path in ("/metrics", "/version", "/v1/models"))
    except httpx.HTTPError as error:
        yield down(VLLM, unanswered(error, server, "the doctor"))
        return
    if models.status_code in REFUSALS:
        yield Finding(VLLM, "key", "fault", f"{server} refuses /v1 (HTTP {models.status_code}).", REMEDY)
    if metrics.status_code != HTTPStatus.OK:
        says = f"{client.base_url}/metrics answered HTTP {metrics.status_code}."
        yield Finding(VLLM, "answers", "fault", says, "Check that the address is vLLM's own and asks for no password.")
        return
    try:
        exposition = read_exposition(metrics.text)
    except ValueError:
        says = f"{client.base_url}/metrics is not an exposition of metrics."
        yield Finding(VLLM, "answers", "fault", says, "Point --vllm-endpoint at a vLLM server.")
        return
    version = _release(release)
    if version is None:
        says = "/version shows no release, so the expected metrics are unknown."
        yield Finding(VLLM, "version", "note", says, "Name vLLM itself, not a gateway in front of it.")
    else:
        yield Finding(VLLM, "version", "ok", f"vLLM {version}")
    yield from judge(exposition, version, load_facts())


def _release(response: httpx.Response) -> Version | None:
    try:
        return Version(response.raise_for_status().json()["version"])
    except (httpx.HTTPStatusError, InvalidVersion, ValueError, KeyError, TypeError, RecursionError):
        return None


def examine_prometheus(client: PrometheusClient) -> Iterator[Finding]:
    """Yield Prometheus' version, the flags that matter here, its rules and its targets."""
    try:
        yield _prometheus_version(client.version())
        yield from _flags(client.flags())
        yield _rules(client)
        yield from _targets(client)
    except PrometheusError as error:
        yield down(PROMETHEUS, error)
    except (KeyError, TypeError, ValueError):
        says = f"{client.url} answers, but not as Prometheus does."
        yield Finding(PROMETHEUS, "answers", "fault", says, "Check the address.")


def _prometheus_version(text: str) -> Finding:
    try:
        version = Version(text).release
    except InvalidVersion:
        return Finding(PROMETHEUS, "version", "note", f"{text!r} is not a version.", "Use a released Prometheus.")
    if LOSES_SAMPLES[0] <= version <= LOSES_SAMPLES[1]:
        says = f"{text} stores one sample of a timeline per scrape and loses the others."
        return Finding(PROMETHEUS, "version", "fault", says, "Use 2.53.2 or later, or 2.51 or earlier.")
    if version < OLDEST_PROMETHEUS:
        return Finding(PROMETHEUS, "version", "fault", f"{text} refuses our alerts.", "Use 2.42 or later.")
    return Finding(PROMETHEUS, "version", "ok", f"Prometheus {text}")


def _flags(flags: dict[str, str]) -> Iterator[Finding]:
    wanted = (
        ("web.enable-lifecycle", "false", "Any page in a browser that reaches it can stop it."),
        ("web.cors.origin", "^$", "Any page in a browser that reaches it can read it."),
        ("rules.alert.resend-delay", "1s", "An alert whose notification is lost is sent again only after a while."),
    )
    for flag, value, otherwise in wanted:
        if flags.get(flag) == value:
            yield Finding(PROMETHEUS, flag, "ok", f"--{flag}={value}")
        else:
            remedy = f"Start it with --{flag}='{value}'." if value != "false" else f"Start it without --{flag}."
            yield Finding(PROMETHEUS, flag, "note", f"{otherwise} It is {flags.get(flag)!r}.", remedy)


def _rules(client: PrometheusClient) -> Finding:
    """Return whether our rules are evaluated: the Hop2RagWatchdog is one of them and always fires."""
    try:
        client.query(WATCHDOG)
    except NoDataError:
        says = "The recording rules and alerts are not evaluated: panels and alerts stay empty."
        return Finding(
            PROMETHEUS, "rules", "fault", says, "Load prometheus/rules and prometheus/alerts (`hop2rag watch`)."
        )
    return Finding(PROMETHEUS, "rules", "ok", "Rules and alerts are evaluated.")


def _targets(client: PrometheusClient) -> Iterator[Finding]:
    for (job, instance), error in sorted(client.scrape_errors().items()):
        if not error:
            yield Finding(PROMETHEUS, "target", "ok", f"{job} {instance}")
        else:
            says = f"The last scrape of {job} at {instance} failed: {error}."
            remedy = f"Start what serves {instance}, or correct its address in the target file."
            if "limit" in error:
                remedy = "It shows more than a target may: docs/runbooks/ScrapeTooLarge.md."
            yield Finding(PROMETHEUS, "target", "note" if job == OFTEN_LATE else "fault", says, remedy)


def examine_grafana(client: httpx.Client) -> Iterator[Finding]:
    """Yield whether Grafana and its database are well, whether it has our dashboards, and whether it can draw."""
    try:
        response = client.get("/api/health")
        health = response.json()
        database, version = health["database"], health.get("version", "of an unknown version")
    except httpx.HTTPError as error:
        says = f"{client.base_url} does not answer ({type(error).__name__})."
        yield Finding(GRAFANA, "answers", "fault", says, "Start it, or check its address.")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        says = f"{client.base_url}/api/health answered HTTP {response.status_code}, not as Grafana does."
        yield Finding(GRAFANA, "answers", "fault", says, "Check the address, with the sub-path if it has one.")
    else:
        if database == "ok":
            yield Finding(GRAFANA, "health", "ok", f"Grafana {version}")
            yield from _provisioned(client)
        else:
            says = f"Grafana {version} says that its database is {database!r}."
            yield Finding(GRAFANA, "health", "fault", says, "Look at Grafana's log, and at the disk it writes to.")


def _provisioned(client: httpx.Client) -> Iterator[Finding]:
    try:
        found = {row["uid"] for row in client.get("/api/search", params={"tag": TAG}).raise_for_status().json()}
        settings = client.get("/api/frontend/settings").raise_for_status().json()
        can_render = settings.get("rendererAvailable") is True
    except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError):
        says = "It shows its dashboards and its renderer only with a token."
        yield Finding(GRAFANA, "dashboards", "note", says, "Give a service account's token in GRAFANA_TOKEN.")
        return
    ours = {json.loads(path.read_text())["uid"] for path in asset("grafana/dashboards").glob("*.json")}
    if missing := sorted(ours - found):
        says = f"Dashboards are missing: {', '.join(missing)}."
        yield Finding(GRAFANA, "dashboards", "fault", says, "Provision it from the folder grafana/; see its log.")
    else:
        yield Finding(GRAFANA, "dashboards", "ok", f"{len(ours)} dashboards")
    if can_render:
        yield Finding(GRAFANA, "renderer", "ok", "It can draw panels.")
    else:
        says = "It has no image renderer, so `hop2rag export` draws the pictures itself."
        yield Finding(GRAFANA, "renderer", "note", says, "Set up grafana-image-renderer to get Grafana's own.")

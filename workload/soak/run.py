"""Runs a whole soak with real services, for the command line."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from workload.corpus.default import require_same_corpus
from workload.corpus.embedding import MiniLmEmbedder
from workload.engine.profile import PROFILES
from workload.errors import UsageError
from workload.harness.backends import check_engine, corpus_of, engine_of, launcher_of, prometheus_of, requester
from workload.harness.resume import resume_settings
from workload.paths import cache_dir
from workload.record.annotations import annotator, find_grafana, mark_action
from workload.record.bundle import open_bundle
from workload.record.manifest import readable
from workload.services.alert_webhook import PATH
from workload.services.alertmanager import AttachedAlertmanager, LocalAlertmanager
from workload.services.process import HOST
from workload.services.prometheus_binary import find_alertmanager
from workload.services.prometheus_server import loopback_session
from workload.soak.environment import SoakEnvironment, panel_capture
from workload.soak.plan import SoakPlan
from workload.soak.session import EXPERIMENT, WATCHED_ONLY, SoakSession

if TYPE_CHECKING:
    from pathlib import Path

    from rich.progress import Progress

    from workload.harness.stay_up import Ports
    from workload.services.locks import Requester
    from workload.settings import Places, Settings
    from workload.soak.reporting import FinishedSoak


def run_soak(
    settings: Settings,
    plan: SoakPlan,
    ports: Ports,
    progress: Progress,
    run_id: str | None = None,
    *,
    token_file: Path | None = None,
) -> FinishedSoak:
    """Run a soak, or resume the one named `run_id`; services that already run are reused.

    `token_file` has the bearer token of an Alertmanager that the settings name.

    Raises:
        Hop2RagError: with the exit code of its class; the run can then be resumed.
    """
    if plan.profile not in PROFILES:
        raise UsageError(f"There is no profile {plan.profile!r}.", f"There are: {', '.join(PROFILES)}.")
    embedder = MiniLmEmbedder()
    check_engine(settings.engine, settings.places)
    corpus = corpus_of(settings, embedder, progress)
    launcher = launcher_of(settings.engine, settings.places, progress.console)
    bundle = open_bundle(settings.places.results, run_id, EXPERIMENT)
    if bundle.is_begun:
        require_same_corpus(bundle.run_id, bundle.resume().get("corpus"), corpus.source_dict())
        bundle.note(status="running")
    else:
        bundle.start(EXPERIMENT, settings.flat())
        bundle.note(plan=plan.model_dump(mode="json"))
    bundle.note(corpus=corpus.source_dict())
    said = f"Run {bundle.run_id}. After an interruption: --resume {bundle.run_id}"
    progress.console.print(said, markup=False, highlight=False, soft_wrap=True)
    grafana = find_grafana()
    annotate = annotator(grafana, partial(progress.console.print, markup=False))
    if not settings.app.app:
        embedder.load()
    by = requester(progress.console, bundle.run_id)
    try:
        alertmanager = alertmanager_of(settings.places, ports, token_file, by) if plan.alerts else None
        address = alertmanager.address if isinstance(alertmanager, LocalAlertmanager) else None
        prometheus = prometheus_of(settings.places, settings.load.vllm_interval_ms, by, address)
        with ExitStack() as stack:
            stack.enter_context(engine_of(settings.places).acquire(by=by))
            if alertmanager:
                stack.enter_context(alertmanager)
            stack.enter_context(prometheus)
            labels = {"run": bundle.run_id, "experiment": EXPERIMENT, "arm": plan.profile}
            environment = SoakEnvironment(
                launcher=launcher,
                owns_engine=settings.places.vllm_endpoint is None,
                store=corpus.store,
                embedder=embedder,
                questions=corpus.questions,
                prometheus=prometheus,
                alertmanager=alertmanager,
                webhook_host=webhook_host(settings.places),
                webhook_port=ports.webhook,
                capture=panel_capture(prometheus.client, bundle, labels, grafana),
                mark=partial(mark_action, annotate, run=bundle.run_id),
            )
            return SoakSession(environment, settings, plan, bundle, progress).run()
    except BaseException as error:
        status = "interrupted" if isinstance(error, KeyboardInterrupt) else "aborted"
        bundle.note(status=status, why=str(error) or type(error).__name__)
        raise


def alertmanager_of(
    places: Places, ports: Ports, token_file: Path | None, by: Requester
) -> LocalAlertmanager | AttachedAlertmanager:
    """Return the Alertmanager that steers the soak: the one that the settings name, else our own on this host.

    Raises:
        UsageError: a running Prometheus is named without its Alertmanager, or that one without its token.
        MissingPartError: Alertmanager is not installed.
    """
    if places.alertmanager_url and token_file:
        return AttachedAlertmanager(places.alertmanager_url, token_file, loopback_session())
    if places.prometheus_url:
        raise UsageError(
            f"A soak in {places.prometheus_url} is steered by the Alertmanager to which that one sends.",
            "Name it by HOP2RAG_ALERTMANAGER_URL and --webhook-token-file, as the service `soak` of docker-compose.yml "
            "does; or give --no-alerts.",
        )
    return LocalAlertmanager(
        find_alertmanager(cache_dir()),
        cache_dir(),
        loopback_session(),
        port=ports.alertmanager,
        webhook=f"http://{HOST}:{ports.webhook}{PATH}",
        by=by,
    )


def webhook_host(places: Places) -> str:
    """Return where the webhook listens: an Alertmanager of another host calls the address that Prometheus scrapes."""
    return places.listen.rpartition(":")[0].strip("[]") if places.alertmanager_url else HOST


def resumed(now: Settings, plan: SoakPlan, run: str) -> tuple[Settings, SoakPlan]:
    """Return a soak's settings and plan to resume it with; only addresses and what watches it may differ.

    Raises:
        UsageError: there is no such run, it is not a soak, or its manifest is damaged or names other files.
    """
    settings, manifest = resume_settings(EXPERIMENT, now, run)
    watched = {name: getattr(plan, name) for name in WATCHED_ONLY}
    with readable(run):
        return settings, SoakPlan.model_validate({**manifest.plan, **watched})

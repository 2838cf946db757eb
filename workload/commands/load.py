"""`hop2rag load`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path  # noqa: TC003 - typer reads the annotations at run time
from typing import Annotated

import typer

from workload.commands.options import (
    Collection,
    Endpoint,
    EnginePort,
    K,
    MaxHops,
    PersistDir,
    PrometheusPort,
    Questions,
    Seed,
    ServedModel,
    out,
    progress_bars,
)


def load(
    rate: Annotated[float, typer.Option(min=0.0001, max=100, help="Questions a second, at the most.")] = 0.05,
    max_hops: MaxHops = None,
    k: K = None,
    vllm_endpoint: Endpoint = None,
    served_model: ServedModel = None,
    persist_dir: PersistDir = None,
    collection: Collection = None,
    questions: Questions = None,
    prometheus_port: PrometheusPort = None,
    engine_port: EnginePort = None,
    seed: Seed = None,
    webhook_token_file: Annotated[
        Path | None, typer.Option(help="Listen to Alertmanager, who presents the token in this file.")
    ] = None,
    webhook_listen: Annotated[
        str, typer.Option(help="host:port for Alertmanager.", metavar="ADDRESS")
    ] = "127.0.0.1:9096",
) -> None:
    """Ask one question after the other, gently and without an end, so that dashboards show something.

    It steps aside while an experiment runs, and while an alert asks for a pause. Its series carry run="live".
    """
    from workload.commands.run import given  # noqa: PLC0415 - `--help` need not load the numeric libraries
    from workload.corpus.default import open_corpus  # noqa: PLC0415
    from workload.corpus.embedding import MiniLmEmbedder  # noqa: PLC0415
    from workload.harness.ask import standing_launcher, starting_again  # noqa: PLC0415
    from workload.harness.continuous import ContinuousLoad  # noqa: PLC0415
    from workload.harness.engine_lock import engine_of  # noqa: PLC0415
    from workload.harness.run import greet, prometheus_client, targets_of  # noqa: PLC0415
    from workload.services.alert_confirmation import confirmer  # noqa: PLC0415
    from workload.services.alert_listener import AlertListener  # noqa: PLC0415
    from workload.settings import load_settings  # noqa: PLC0415

    settings = load_settings(
        {
            "limit": 1,
            "max_hops": 3,
            "k": 10,
            **given(max_hops=max_hops, k=k),
            "vllm_endpoint": vllm_endpoint,
            "served_model": served_model,
            "persist_dir": persist_dir,
            "collection": collection,
            "questions": questions,
            "prometheus_port": prometheus_port,
            "engine_port": engine_port,
            "seed": seed,
        }
    )
    greet(settings.engine, settings.places)
    out.print("Opening the corpus; the first time it is indexed.")
    embedder = MiniLmEmbedder()
    with progress_bars() as progress:
        corpus = open_corpus(settings.corpus, settings.places.chroma_url, embedder, progress)
    embedder.load()
    listener = AlertListener(out, confirmer(prometheus_client(settings.places).firing))
    with ExitStack() as stack:
        if webhook_token_file:
            stack.enter_context(listener.listening(webhook_listen, webhook_token_file))
        launcher, targets = standing_launcher(settings.engine, settings.places, out), targets_of(settings.places)

        def held_by() -> tuple[str, ...]:
            return (*listener.pausing(), *starting_again(settings.places))

        ContinuousLoad(
            settings, rate, launcher, targets, corpus, embedder, out, held_by, engine=engine_of(settings.places)
        ).run()

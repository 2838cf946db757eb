"""`hop2rag load`."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated, Any

import typer

from workload.commands.options import AGENT, PORTS, RUNNING, STORE, WebhookTokenFile, out, progress_bars, with_settings
from workload.commands.run import DEFAULTS


@with_settings(*AGENT, *RUNNING, *STORE, *PORTS, "seed")
def load(
    flags: dict[str, Any],
    rate: Annotated[float, typer.Option(min=0.0001, max=100, help="Most questions per second.")] = 0.05,
    webhook_token_file: WebhookTokenFile = None,
    webhook_listen: Annotated[
        str, typer.Option(help="host:port at which the webhook listens.", metavar="ADDRESS")
    ] = "127.0.0.1:9096",
) -> None:
    """Send questions one at a time, at a low rate, until stopped, so that dashboards show something.

    It pauses while an experiment runs, and with --webhook-token-file while an alert asks for a pause. Its series have
    run="live".
    """
    from workload.corpus.default import open_corpus  # noqa: PLC0415
    from workload.corpus.embedding import MiniLmEmbedder  # noqa: PLC0415
    from workload.harness.ask import launcher_in_use, pending_restart  # noqa: PLC0415
    from workload.harness.backends import check_engine, engine_of, prometheus_client, targets_of  # noqa: PLC0415
    from workload.harness.continuous import ContinuousLoad  # noqa: PLC0415
    from workload.services.alert import confirmer  # noqa: PLC0415
    from workload.services.alert_listener import AlertListener  # noqa: PLC0415
    from workload.settings import load_settings  # noqa: PLC0415

    settings = load_settings(DEFAULTS | flags)
    check_engine(settings.engine, settings.places)
    out.print("Opening the corpus; the first time it is indexed.")
    embedder = MiniLmEmbedder()
    with progress_bars() as progress:
        corpus = open_corpus(settings.corpus, settings.places.chroma_url, embedder, progress)
    embedder.load()
    listener = AlertListener(out, confirmer(prometheus_client(settings.places).firing))
    with ExitStack() as stack:
        if webhook_token_file:
            stack.enter_context(listener.listening(webhook_listen, webhook_token_file))
        launcher, targets = launcher_in_use(settings.engine, settings.places, out), targets_of(settings.places)

        def pause_reasons() -> tuple[str, ...]:
            return (*listener.pausing(), *pending_restart(settings.places))

        ContinuousLoad(
            settings=settings,
            rate=rate,
            launcher=launcher,
            targets=targets,
            corpus=corpus,
            embedder=embedder,
            console=out,
            pause_reasons=pause_reasons,
            engine=engine_of(settings.places),
        ).run()

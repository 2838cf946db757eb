"""`hop2rag watch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from workload.commands.options import out as console


def watch(
    *,
    vllm: Annotated[str, typer.Option(help="URLs of engines, separated by commas.")] = "",
    workload: Annotated[str, typer.Option(help="Addresses of metered agents, HOST:PORT,...")] = "",
    exporter: Annotated[str, typer.Option(help="Addresses of hop2rag-exporter, HOST:PORT,...")] = "",
    form: Annotated[
        Literal["files", "kubernetes"],
        typer.Option("--format", help="For a Prometheus and a Grafana on hosts, or for kube-prometheus-stack."),
    ] = "files",
    scrape_interval: Annotated[str, typer.Option(help="From 1s to 30s.")] = "15s",
    timelines: Annotated[
        bool, typer.Option(help="Store GPU memory and node activity every 10 ms; scraped once a second.")
    ] = True,
    out: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("hop2rag-watch"),
    mounted_at: Annotated[
        str | None, typer.Option(help="That folder as Prometheus and Grafana see it (default: its own path).")
    ] = None,
    prometheus_url: Annotated[
        str, typer.Option(help="Prometheus as Grafana reaches it (default: the format's usual address).")
    ] = "",
    tempo_uid: Annotated[
        str, typer.Option(help="Uid of a Tempo data source; trace ids in panels then open in it.")
    ] = "",
    runbooks: Annotated[str, typer.Option(help="URL of the folder with the runbooks, for the alerts' links.")] = "",
    grafana: Annotated[str, typer.Option(help="URL of Grafana, for the alerts' links.")] = "",
    release: Annotated[
        str, typer.Option(help="kubernetes: label by which Prometheus selects objects.")
    ] = "kube-prometheus-stack",
    namespace: Annotated[str, typer.Option(help="kubernetes: where the objects lie.")] = "monitoring",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that were changed by hand.")] = False,
) -> None:
    """Write scrape jobs, rules, dashboards and provisioning for the Prometheus and the Grafana that you have.

    Nothing is started or changed outside the folder, whose README.md says what to do with it.
    """
    from workload.watch.render import Surroundings, render  # noqa: PLC0415 - `--help` need not load it
    from workload.watch.subject import subject  # noqa: PLC0415

    watched = subject(vllm, workload, exporter, scrape_interval=scrape_interval, has_timelines=timelines)
    where = Surroundings(
        place=mounted_at or str(out.resolve()),
        prometheus_url=prometheus_url,
        tempo_uid=tempo_uid,
        runbooks=runbooks,
        grafana=grafana,
        release=release,
        namespace=namespace,
    )
    written = render(out, watched, form, where, overwrites=overwrite)
    console.print(
        f"{len(written)} files in {out}; {out / 'README.md'} says what to do.", soft_wrap=True, highlight=False
    )

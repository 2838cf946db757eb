"""`hop2rag up` and `hop2rag down`."""

from __future__ import annotations

from typing import Annotated

import typer

from workload.commands.options import out


def up(
    profile: Annotated[str, typer.Option(help="Engine profile; see `hop2rag engine profiles`.")] = "base",
    engine_port: Annotated[int, typer.Option(help="Port of the engine on 127.0.0.1.")] = 8000,
    prometheus_port: Annotated[int, typer.Option(help="Port of Prometheus on 127.0.0.1.")] = 9090,
) -> None:
    """Start the engine and Prometheus on 127.0.0.1 and keep them until Ctrl-C or `hop2rag down`."""
    from workload.up import stay_up  # noqa: PLC0415

    stay_up(profile, engine_port, prometheus_port, out)


def down() -> None:
    """Stop what `hop2rag up` started, in order."""
    from workload.up import bring_down  # noqa: PLC0415

    out.print(bring_down())

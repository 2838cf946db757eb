"""`hop2rag dashboards`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workload.commands.options import out


def dashboards(
    folder: Annotated[Path, typer.Argument(help="Folder for the dashboards' JSON.")] = Path("grafana/dashboards"),
) -> None:
    """Write the Grafana dashboards from the panels that also draw the figures."""
    from workload.dashboards.files import render  # noqa: PLC0415 - `--help` need not load the builders

    for path in render(folder):
        out.print(str(path), soft_wrap=True, highlight=False)

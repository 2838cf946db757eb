"""`hop2rag gate`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from workload.commands.options import SERVERS, Json, give, out, progress_bars, with_settings
from workload.commands.run import DEFAULTS


@with_settings(*SERVERS, "launcher", "results")
def gate(
    flags: dict[str, Any],
    against: Annotated[str, typer.Option("--against", help="The recorded run, with --record-prompts, to replay.")],
    arm: Annotated[str | None, typer.Option(help="The arm to replay (default: the run's first).")] = None,
    tolerance: Annotated[
        float, typer.Option(min=0.001, max=1, help="The slowdown that passes, as a share of the time.")
    ] = 0.03,
    as_json: Json = False,
) -> None:
    """Replay a recorded run and say whether it is worse: exit code 0 if not, 7 if so, 8 if it cannot be decided.

    The verdict is also in the new run's folder: gate.json, gate.md for a CI server's page, gate.xml as JUnit.
    """
    from workload.experiments.gate import CODES, run_gate  # noqa: PLC0415 - `--help` need not load these
    from workload.report.gate import rows_of, sentences  # noqa: PLC0415
    from workload.report.headlines import print_table  # noqa: PLC0415
    from workload.settings import load_settings  # noqa: PLC0415

    settings = load_settings(DEFAULTS | flags | {"figures": False})
    with progress_bars() as progress:
        found, finished = run_gate(settings, against, progress, arm=arm, tolerance=tolerance)

    def show() -> None:
        print_table(out, f"{found['run']} against {found['reference']}", *rows_of(found))
        for sentence in sentences(found):
            out.print(f"- {sentence}", soft_wrap=True)
        out.print(f"Files: {finished.bundle}/gate.json, gate.md, gate.xml", soft_wrap=True)

    give(found, show, as_json=as_json)
    raise typer.Exit(CODES[found["verdict"]])

"""`hop2rag runs`: what was measured, looked at again without an engine or a Prometheus."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from workload.commands.options import Json, give, out

app = typer.Typer(help="List, show, compare and export past runs.", no_args_is_help=True)
Format = Literal["jsonl", "csv"]
Run = Annotated[str, typer.Argument(help="The run: the name of its folder under results/runs.")]
Results = Annotated[Path, typer.Option(help="Folder of the results.", envvar="HOP2RAG_RESULTS")]


@app.command("list")
def list_(results: Results = Path("results"), as_json: Json = False) -> None:
    """List the runs of a results folder, oldest first."""
    from workload.record.runs import list_runs  # noqa: PLC0415 - `--help` need not load the numeric libraries
    from workload.report.headlines import print_table  # noqa: PLC0415

    found = list_runs(results)
    columns = ("run", "experiment", "status", "questions", "model")
    rows = [(each.run, each.experiment, each.status, str(each.questions), each.model) for each in found]
    title = f"{len(rows)} runs in {results}"
    give([asdict(line) for line in found], lambda: print_table(out, title, columns, rows), as_json=as_json)


@app.command("show")
def show_(
    run: Run,
    results: Results = Path("results"),
    slo: Annotated[
        str | None, typer.Option(help="Count goodput again, from the journal, under these objectives.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what a finished run printed at its end."""
    from workload.analysis.serving import serving  # noqa: PLC0415
    from workload.experiments.lookup import study_of  # noqa: PLC0415
    from workload.record.results import Finished, read_run  # noqa: PLC0415
    from workload.report.headlines import print_finished  # noqa: PLC0415
    from workload.report.past_run import open_run  # noqa: PLC0415

    found = open_run(run, results, study_of)
    summary = found.summary
    if slo:
        objectives = found.settings.changed(slo=slo).places.slo
        summary |= {"serving": serving(read_run(found.bundle.journal, found.measured), objectives)}
    finished = Finished(run, summary, (), found.bundle.folder)
    give(summary, lambda: print_finished(out, found.study, finished), as_json=as_json)


@app.command("compare")
def compare(
    first: Annotated[str, typer.Argument(help="The run to compare with.")],
    second: Annotated[str, typer.Argument(help="The run that is compared with it.")],
    arm: Annotated[
        str | None, typer.Option(help="Compare this arm only, or A=B for an arm of each (default: all of one name).")
    ] = None,
    results: Results = Path("results"),
    as_json: Json = False,
) -> None:
    """Compare two runs, arm by arm: paired by question where both asked it, else side by side."""
    from workload.analysis.run_pair import compare_runs  # noqa: PLC0415
    from workload.record.runs import open_recorded  # noqa: PLC0415
    from workload.report.headlines import print_table  # noqa: PLC0415
    from workload.report.run_pair import sentences, table  # noqa: PLC0415

    one, _, other = (arm or "").partition("=")
    named = (one, other or one) if arm else None
    pair = compare_runs(open_recorded(results, first), open_recorded(results, second), named)

    def show() -> None:
        print_table(out, f"{second} against {first}", *table(pair))
        for sentence in sentences(pair):
            out.print(f"- {sentence}", soft_wrap=True)

    give(pair, show, as_json=as_json)


@app.command("export")
def export(
    run: Run,
    folder: Annotated[Path | None, typer.Option("--out", help="Folder (default: results/runs/RUN/rows).")] = None,
    kind: Annotated[Format, typer.Option("--format", help="jsonl or csv.")] = "jsonl",
    results: Results = Path("results"),
) -> None:
    """Write a run's questions and LLM calls, one row each."""
    from workload.export.rows import write_rows  # noqa: PLC0415
    from workload.files.enclosed import run_folder  # noqa: PLC0415
    from workload.record.runs import open_recorded  # noqa: PLC0415

    found = open_recorded(results, run)
    for path in write_rows(found.data, folder or run_folder(results, run) / "rows", kind):
        out.print(str(path), soft_wrap=True)

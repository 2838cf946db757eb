"""A stub engine that starts in a moment, for tests of what surrounds the engine."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from workload.engine.install import EngineInstallation
from workload.engine.launcher import ProcessLauncher
from workload.services.process import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

STUB = Path(__file__).with_name("stub_vllm.py")


@pytest.fixture
def console() -> Console:
    """Return a console whose output can be read back with `console.file.getvalue()`."""
    return Console(file=io.StringIO(), width=400)


@pytest.fixture
def port() -> int:
    """Return a port that was free a moment ago."""
    return free_port()


@pytest.fixture
def launcher(tmp_path: Path, console: Console, port: int) -> Callable[..., ProcessLauncher]:
    """Return a factory of launchers whose `python` is the stub."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {STUB} "$@"\n')
    python.chmod(0o700)
    installation = EngineInstallation(python, tmp_path / "model", "stub-model", "0.32.0")

    def build(**settings: Any) -> ProcessLauncher:
        return ProcessLauncher(installation, tmp_path / "logs", console, port, **{"timeout_seconds": 30.0, **settings})

    return build

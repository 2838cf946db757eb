"""What the tests of the handler share: a folder for the entries of apps that serve, and a server that counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stubs.vllm import StubVllm

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in which apps that serve leave an entry for Prometheus."""
    folder = tmp_path / "targets"
    monkeypatch.setenv("HOP2RAG_TARGETS", str(folder))
    return folder


@pytest.fixture(scope="session")
def counting() -> Iterator[StubVllm]:
    """Start one server for all shapes."""
    with StubVllm() as server:
        yield server

"""What fault tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stubs.home import CANARY

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder to work in that also has a file and a folder of the user's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOP2RAG_CACHE", str(tmp_path / "cache"))
    for name in ("HOP2RAG_RESULTS", "GRAFANA_URL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "canary").write_text(CANARY)
    return tmp_path

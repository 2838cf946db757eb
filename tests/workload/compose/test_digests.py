"""Digests come from a registry and go behind their tags; nothing else changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from workload.compose.digests import FILES, pin, pinned, tags

if TYPE_CHECKING:
    from pathlib import Path

COMPOSE = """services:
  a:
    image: prom/prometheus:v3.13.3
  b:
    image: hop2rag-engine:0.1.0
"""
DOCKERFILE = "FROM python:3.11.14-slim-bookworm AS build\nFROM build AS project\nFROM python:3.11.14-slim-bookworm\n"
FIRST, SECOND = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def test_only_images_of_a_registry_are_pinned() -> None:
    """Our own are built here, and the name of a stage is no image."""
    assert tags(COMPOSE) == ["prom/prometheus:v3.13.3"]
    assert set(tags(DOCKERFILE)) == {"python:3.11.14-slim-bookworm"}


def test_a_digest_is_replaced_by_the_next() -> None:
    """A tag that is raised by hand must not keep the digest of its predecessor."""
    once = pinned(COMPOSE, {"prom/prometheus:v3.13.3": FIRST})
    assert f"image: prom/prometheus:v3.13.3@{FIRST}\n" in once
    assert pinned(once, {"prom/prometheus:v3.13.3": SECOND}) == once.replace(FIRST, SECOND)
    assert tags(once) == tags(COMPOSE)


def test_a_registry_that_fails_changes_no_file(tmp_path: Path) -> None:
    """Half a pinning looks like a whole one."""
    for file in FILES:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(DOCKERFILE if "Dockerfile" in file else COMPOSE)

    def fail_on_python(tag: str) -> str:
        if tag.startswith("python"):
            raise ConnectionError
        return FIRST

    with pytest.raises(ConnectionError):
        pin(tmp_path, fail_on_python)
    assert (tmp_path / FILES[0]).read_text() == COMPOSE
    assert pin(tmp_path, lambda _: FIRST).keys() == {"prom/prometheus:v3.13.3", "python:3.11.14-slim-bookworm"}
    assert (tmp_path / FILES[-1]).read_text().count(FIRST) == 2

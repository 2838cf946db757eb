"""Pins images to the digests of their tags in the registry: a tag can move, a digest cannot."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

FILES = (
    "docker-compose.yml",
    "docker-compose.gpu.yml",
    "workload/compose/tracing.yml",
    "exporter/Dockerfile",
    "workload/Dockerfile",
    "workload/engine/Dockerfile",
    "workload/engine/Dockerfile.gpu",
)
OWN = "hop2rag-"
"""Images with this prefix are built here and are in no registry."""

REFERENCE = re.compile(
    r"^(?P<before>(?:\s*image: |FROM |ARG VLLM_IMAGE=))(?P<tag>[\w./-]+:[\w.-]+)(?:@sha256:[0-9a-f]{64})?", re.MULTILINE
)


def tags(text: str) -> list[str]:
    """Return the tags that a compose file or a Dockerfile pulls from a registry, without digests."""
    return [found["tag"] for found in REFERENCE.finditer(text) if not found["tag"].startswith(OWN)]


def pinned(text: str, digests: Mapping[str, str]) -> str:
    """Return `text` with the digest (`sha256:...`) after each tag in `digests`, in place of an older one."""

    def add(found: re.Match[str]) -> str:
        digest = digests.get(found["tag"])
        return f"{found['before']}{found['tag']}@{digest}" if digest else found[0]

    return REFERENCE.sub(add, text)


def pin(root: Path, digest_of: Callable[[str], str]) -> dict[str, str]:
    """Pin every image in the checkout at `root` and return the digests by tag.

    `digest_of` asks the registry for a tag's digest, `sha256:...`; if it raises, no file is changed.
    """
    texts = {path: path.read_text() for path in (root / name for name in FILES)}
    digests = {tag: digest_of(tag) for text in texts.values() for tag in tags(text)}
    for path, text in texts.items():
        path.write_text(pinned(text, digests))
    return digests

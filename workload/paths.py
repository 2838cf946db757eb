"""Paths: the cache (engine, model, Prometheus), names below a root, and the files shipped with the project."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from workload.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Not only dots; \Z, because $ allows a newline at the end.
NAME_PATTERN = re.compile(r"^(?!\.+\Z)[A-Za-z0-9._-]{1,64}\Z")


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Return HOP2RAG_CACHE, else $XDG_CACHE_HOME/hop2rag, else ~/.cache/hop2rag (not created)."""
    if explicit := environ.get("HOP2RAG_CACHE"):
        return Path(explicit).expanduser().resolve()
    base = environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "hop2rag"


def asset(relative: str) -> Path:
    """Return the path of a shipped file such as `prometheus/prometheus.yml`, from the package or the checkout."""
    package = Path(__file__).parent
    packaged = package / "assets" / relative
    return packaged if packaged.exists() else package.parent / relative


def inside(root: Path, name: str, what: str) -> Path:
    """Return `root/name`; refuse names that are not plain or that leave `root`.

    Raises:
        UsageError: the name does not match `NAME_PATTERN`, or resolves (through a link) outside the root.
    """
    if not NAME_PATTERN.match(name):
        raise UsageError(
            f"{what} {name!r} is not a plain name.", "Use 1 to 64 letters, digits, dots, dashes or underscores."
        )
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()):
        raise UsageError(f"{what} {name!r} resolves outside {root}.", "Remove the link or pick another name.")
    return path

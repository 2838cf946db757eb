"""What a compose project cannot check itself: the variables in `.env`, and whether services can read the checkout."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from workload.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

SIMILAR = 0.8


def misspelt(names: Iterable[str], known: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each name that resembles a known variable and is none; others are somebody else's."""
    variables = sorted(known)
    for name in sorted(set(names) - set(variables)):
        for meant in get_close_matches(name.upper(), variables, n=1, cutoff=SIMILAR):
            yield f"{name} is not a variable of docker-compose.yml and has no effect; {meant} is."


def documented(example: Path) -> list[str]:
    """Return the names of the variables in `.env.example`, each commented out."""
    lines = (line.lstrip("#").partition("=") for line in example.read_text().splitlines() if "=" in line)
    return [name for name, _, _ in lines if name.isupper() and name.replace("_", "").isalnum()]


def require_readable(folder: Path) -> None:
    """Check that every user can read what is in a folder: services run as users of their own.

    Raises:
        StorageError: something is readable by its owner alone.
    """
    for path in _unreadable(folder):
        raise StorageError(
            f"Other users cannot read {path}: the checkout was made under a umask such as 077.",
            "Run `chmod -R a+rX prometheus grafana .env.example` in the checkout, then start again.",
        )


def _unreadable(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        needed = 0o005 if path.is_dir() else 0o004
        if path.stat().st_mode & needed != needed:
            yield path
        elif path.is_dir():
            yield from _unreadable(path)

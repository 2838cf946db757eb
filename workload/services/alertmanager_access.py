"""Who may ask our Alertmanager: who can read a file that its owner alone may read. No page in a browser can."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

import bcrypt
import yaml

if TYPE_CHECKING:
    from pathlib import Path

USER = "hop2rag"
PASSWORD, WEB_CONFIG = "api-password", "web.yml"
SECRET_BYTES = 32
COST = 10
"""Alertmanager checks it at each request; the password is too long to be guessed at any cost."""


def folder_of(cache: Path, address: str) -> Path:
    """Return where the Alertmanager of ours at "host:port" keeps its files."""
    return cache / f"alertmanager-{address.rpartition(':')[2]}"


def renew(folder: Path) -> None:
    """Write a new password, and the web configuration by which Alertmanager asks for it, before a start.

    Raises:
        OSError: they cannot be written.
    """
    password = secrets.token_urlsafe(SECRET_BYTES)
    digest = bcrypt.hashpw(password.encode(), bcrypt.gensalt(COST)).decode()
    write_secret(folder / PASSWORD, password)
    write_secret(folder / WEB_CONFIG, yaml.safe_dump({"basic_auth_users": {USER: digest}}))


def basic_auth(folder: Path) -> tuple[str, str] | None:
    """Return user and password; None for an Alertmanager that was started before it asked for one."""
    try:
        return USER, (folder / PASSWORD).read_text()
    except FileNotFoundError:
        return None


def write_secret(path: Path, text: str) -> None:
    """Write a file that its owner alone may read, whatever the umask, and that replaces what lay there, link or not."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w") as stream:  # noqa: PTH123
        os.fchmod(descriptor, 0o600)
        stream.write(text)

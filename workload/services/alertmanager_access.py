"""The password of our Alertmanager, in a file that its owner alone can read: no page in a browser can use its API."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import bcrypt
import yaml

from workload.files import atomic_file

if TYPE_CHECKING:
    from pathlib import Path

USER = "hop2rag"
PASSWORD, WEB_CONFIG = "api-password", "web.yml"
SECRET_BYTES = 32
COST = 10
"""Alertmanager hashes at each request, so the cost is low; a password of 32 random bytes cannot be guessed anyway."""


def folder_of(cache: Path, address: str) -> Path:
    """Return the folder of our Alertmanager at "host:port"."""
    return cache / f"alertmanager-{address.rpartition(':')[2]}"


def renew(folder: Path) -> None:
    """Write a new password, and the web configuration with which Alertmanager asks for it.

    Raises:
        StorageError: they cannot be written.
    """
    password = secrets.token_urlsafe(SECRET_BYTES)
    digest = bcrypt.hashpw(password.encode(), bcrypt.gensalt(COST)).decode()
    atomic_file.write(folder / PASSWORD, password)
    atomic_file.write(folder / WEB_CONFIG, yaml.safe_dump({"basic_auth_users": {USER: digest}}))


def basic_auth(folder: Path) -> tuple[str, str] | None:
    """Return user and password; None if this Alertmanager was never started with one."""
    try:
        return USER, (folder / PASSWORD).read_text()
    except FileNotFoundError:
        return None

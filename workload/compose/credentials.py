"""The password and the tokens of a compose project, generated once, each in a volume of its own."""

from __future__ import annotations

import errno
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workload.errors import StorageError
from workload.files import atomic_file
from workload.files.enclosed import text_of

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD_BYTES, TOKEN_BYTES = 18, 32


@dataclass(frozen=True)
class Credential:
    """A secret in a file below the folder where the volumes are mounted.

    Attributes:
        file: its path; the first part is the volume.
        length: its random bytes.
        opens: what it opens, and how to read it.
    """

    file: str
    length: int
    opens: str


CREDENTIALS = (
    Credential(
        "grafana/admin-password",
        PASSWORD_BYTES,
        "Grafana, http://127.0.0.1:3000, user admin. Show it: "
        "docker compose exec grafana cat /credentials/grafana/admin-password",
    ),
    Credential("renderer/token", TOKEN_BYTES, "the image renderer, for Grafana alone"),
    Credential("webhook/token", TOKEN_BYTES, "the workload's webhook, for Alertmanager alone"),
)


def make(root: Path) -> list[tuple[Credential, bool]]:
    """Generate the missing credentials in `root`; return every credential with whether it is new.

    Every user of a container that mounts a volume can read its file, because the services run as different users; each
    service mounts only the volumes that it needs.

    Raises:
        StorageError: a volume is missing or cannot be written.
    """
    return [(credential, _made(root / credential.file, credential.length)) for credential in CREDENTIALS]


def _made(path: Path, length: int) -> bool:
    remedy = "Mount its volume there, writable."
    try:
        if text_of(path).strip():
            return False
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ELOOP}:  # it exists, and may be in use
            raise StorageError(f"Cannot read {path}: {error.strerror}.", remedy) from error
    except ValueError:  # not text, or not a regular file
        pass
    if not path.parent.is_dir():
        raise StorageError(f"Cannot write {path}: there is no such folder.", remedy)
    atomic_file.write(path, secrets.token_urlsafe(length), 0o444)
    return True

"""The password and the tokens of a compose project: made once, each in a volume of its own."""

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
    """A secret in a file below the folder on which the volumes are mounted.

    Attributes:
        file: its path; the first part is the volume.
        length: random bytes in it.
        opens: what it opens, and how a person reads it.
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
    """Make what is not there yet in `root`, and return every credential with whether it is new.

    The files can be read by every user of a container that mounts their volume: the services run as different users,
    and none mounts a volume that it has no business with.

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
        if error.errno not in {errno.ENOENT, errno.ELOOP}:  # it is there, and may be the one in use
            raise StorageError(f"Cannot read {path}: {error.strerror}.", remedy) from error
    except ValueError:  # no text, or no plain file
        pass
    if not path.parent.is_dir():
        raise StorageError(f"Cannot write {path}: there is no such folder.", remedy)
    atomic_file.write(path, secrets.token_urlsafe(length), 0o444)
    return True

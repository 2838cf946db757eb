"""Grafana's token, from a file or from the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from workload.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

TOKEN_VARIABLE, TOKEN_FILE_VARIABLE = "GRAFANA_TOKEN", "GRAFANA_TOKEN_FILE"


def read_token(environ: Mapping[str, str] = os.environ) -> str:
    """Return the token in the file GRAFANA_TOKEN_FILE, else that of GRAFANA_TOKEN, else an empty text.

    Raises:
        UsageError: the file cannot be read, or the token has characters that a header does not allow.
    """
    token = environ.get(TOKEN_VARIABLE, "")
    if file := environ.get(TOKEN_FILE_VARIABLE):
        try:
            token = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{TOKEN_FILE_VARIABLE} {file} cannot be read ({type(error).__name__}).") from None
    token = token.strip()
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise UsageError(
            "Grafana's token has blanks or characters that a header does not allow.", f"Check {TOKEN_VARIABLE}."
        )
    return token

"""Reads a file of questions as published or exported: JSON or JSON lines, with or without a BOM, gzipped or not.

It returns rows with their places in the file; `workload.corpus.layouts` reads the rows.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import json
import zlib
from typing import TYPE_CHECKING, Any, NoReturn

from workload.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_BYTES = 2**30
"""Twice HotpotQA's training set, uncompressed; a gzip file may expand to any size."""

EXPECTED = "Give HotpotQA, 2WikiMultihopQA or MuSiQue as JSON or JSON lines, gzipped or not."
GZIP_MAGIC = b"\x1f\x8b"
# Other kinds of files, by their first bytes.
OTHER_KINDS = {
    b"PK\x03\x04": "a zip archive",
    b"PAR1": "a Parquet file",
    b"BZh": "compressed by bzip2",
    b"\xfd7zXZ": "compressed by xz",
}
ENCODINGS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def read_rows(path: Path) -> list[tuple[str, Any]]:
    """Return the file's rows, each with its place: "entry 0" of a list, "line 1" of JSON lines.

    A list may be in an object, as `data` or as the `rows` of Hugging Face's server; a table may be by columns.

    Raises:
        UsageError: the file is missing, too large, of another kind, truncated, or not JSON.
    """
    rows = list(_rows(_text(path), path))
    if not rows:
        raise UsageError(f"The question file {path} is an empty list.", EXPECTED)
    return rows


def digest(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's bytes.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        _refuse(path, error)


def _text(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"The question file {str(path)!r} cannot be read: it is not a plain file.", EXPECTED)
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
        if raw.startswith(GZIP_MAGIC):
            with gzip.open(path) as packed:
                raw = packed.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise UsageError(f"The question file {path} has more than {MAX_BYTES // 2**30} GiB.", "Split it.")
        if kind := next((kind for magic, kind in OTHER_KINDS.items() if raw.startswith(magic)), None):
            raise UsageError(f"The question file {path} is {kind}.", f"Unpack or convert it. {EXPECTED}")
        encoding = next((name for mark, name in ENCODINGS.items() if raw.startswith(mark)), "utf-8")
        return raw.decode(encoding)
    except (OSError, ValueError, EOFError, zlib.error) as error:
        _refuse(path, error)


def _rows(text: str, path: Path) -> Iterator[tuple[str, Any]]:
    try:
        value = json.loads(text)
    except ValueError as error:
        first = text.lstrip()[:1]
        if first != "{" or "\n" not in text.strip():
            _refuse(path, error)
        yield from _lines(text, path)
        return
    except RecursionError as error:
        _refuse(path, error)
    if isinstance(value, dict):
        value = _table(value)
    if not isinstance(value, list):
        raise UsageError(f"The question file {path} has a {type(value).__name__} at the top.", EXPECTED)
    for number, row in enumerate(value):
        yield f"entry {number}", row


def _lines(text: str, path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield f"line {number}", json.loads(line)
            except (ValueError, RecursionError) as error:
                reason = f"{type(error).__name__}: {error}"
                raise UsageError(f"{path}: line {number}: expected a JSON object, found {reason}.", EXPECTED) from error


def _table(value: dict[str, Any]) -> Any:
    """Return the rows in an object; the object itself if its shape is unknown."""
    if isinstance(value.get("data"), list):
        return value["data"]
    if isinstance(value.get("rows"), list):
        return [_whole(row, number) for number, row in enumerate(value["rows"])]
    asked = value.get("question")
    if isinstance(asked, str):
        return [value]
    if isinstance(asked, list | dict):
        columns = {name: list(each.values()) if isinstance(each, dict) else each for name, each in value.items()}
        if all(isinstance(each, list) and len(each) == len(asked) for each in columns.values()):
            return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return value


def _whole(row: Any, number: int) -> Any:
    """Return the row in a wrapper of Hugging Face's server, which truncates long cells."""
    if isinstance(row, dict) and row.get("truncated_cells"):
        raise UsageError(f"Entry {number} was truncated by the server that sent it.", "Download the whole file.")
    return row.get("row", row) if isinstance(row, dict) else row


def _refuse(path: Path, error: Exception) -> NoReturn:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else f"{type(error).__name__}: {error}"
    raise UsageError(f"The question file {str(path)!r} cannot be read: {reason}.", EXPECTED) from error

"""Reads a recording: a folder with the Prometheus series and the result files of recorded runs."""

from __future__ import annotations

import lzma
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from workload.errors import StorageError, UsageError
from workload.files.atomic_file import OWNER_ONLY, make_folder
from workload.files.enclosed import json_of, refuse_ways_out
from workload.record.bundle import MANIFEST
from workload.record.manifest import DAMAGE, Count, Name, Time, Word

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

SERIES = "series.om.xz"
PACKED = ".xz"
MAX_RUNS = 64
# The limit of one unpacked file, and of all files of a run together: three times the largest ever recorded.
MAX_BYTES = 512 * 2**20
MAX_DECODER_BYTES = 128 * 2**20
PIECE_BYTES = 2**20


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("a label is one line of plain text")
    return text


class RecordedRun(BaseModel):
    """The fields used of a run in a recording's manifest."""

    model_config = ConfigDict(frozen=True, strict=True)

    windows: Count


class RecordingManifest(BaseModel):
    """The fields used of a recording's manifest; see `Recording`."""

    model_config = ConfigDict(frozen=True, strict=True)

    label: Annotated[Word, AfterValidator(_one_line)]
    start: Time
    end: Time
    runs: Annotated[dict[Name, RecordedRun], Field(max_length=MAX_RUNS)]

    @model_validator(mode="after")
    def _runs_forward(self) -> RecordingManifest:
        if self.end < self.start:
            raise ValueError("a recording ends after its start")
        return self


@dataclass(frozen=True)
class Recording:
    """A recording as `benchmarks/reference_run` writes it.

    Attributes:
        label: the hardware and model that were recorded; every picture repeats it.
        start, end: times of the first and the last sample, in seconds since the epoch.
        runs: names of the runs with at least one closed window, in order of time.
    """

    folder: Path
    label: str
    start: float
    end: float
    runs: tuple[str, ...] = ()


def find_recordings(folder: Path) -> list[Recording]:
    """Return the recordings in a folder; the folder may itself be a recording.

    Raises:
        UsageError: there is no recording, a manifest cannot be used, or a link leads out of a recording's folder.
    """
    manifests = sorted({*folder.glob(MANIFEST), *folder.glob(f"*/{MANIFEST}")})
    if not manifests:
        raise UsageError(f"There is no recording in {folder}.", "Name a folder that contains its manifest.json.")
    return [_read(path) for path in manifests]


def _read(path: Path) -> Recording:
    refuse_ways_out(path.parent)
    try:
        manifest = RecordingManifest.model_validate(json_of(path))
    except (OSError, *DAMAGE) as error:
        reason = type(error).__name__ if isinstance(error, ValidationError) else repr(error)
        raise UsageError(
            f"{path} is not the manifest of a recording ({reason}).", "Record or unpack it again."
        ) from error
    runs = tuple(sorted(name for name, run in manifest.runs.items() if run.windows))
    return Recording(path.parent, manifest.label, manifest.start, manifest.end, runs)


def unpack(source: Path, target: Path, most: int = MAX_BYTES) -> int:
    """Copy a file of a recording to a new file, decompress it if necessary, and return its size in bytes.

    Raises:
        UsageError: the source is missing or damaged, or has more than `most` bytes after decompression.
        StorageError: the target cannot be written.
    """
    size = 0
    try:
        make_folder(target.parent)
        target.unlink(missing_ok=True)
        descriptor = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, OWNER_ONLY)
        with os.fdopen(descriptor, "wb") as plain:
            for piece in _pieces(source, most):
                size += plain.write(piece)
    except (lzma.LZMAError, EOFError, FileNotFoundError) as error:
        target.unlink(missing_ok=True)
        raise UsageError(f"{source} is missing or damaged ({error}).", "Unpack the recording again.") from error
    except OSError as error:
        raise StorageError(f"{target} cannot be written: {error.strerror}.", "Free some space.") from error
    return size


def _pieces(source: Path, most: int) -> Iterator[bytes]:
    """Yield the decompressed content of a file in pieces that fit in memory."""
    with os.fdopen(os.open(source, os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
        plain = iter(lambda: stream.read(PIECE_BYTES), b"")
        for piece in _decompressed(stream) if source.suffix == PACKED else plain:
            if (most := most - len(piece)) < 0:
                raise EOFError("its content is larger than any recording")
            yield piece


def _decompressed(packed: BinaryIO) -> Iterator[bytes]:
    """Yield the content of a compressed file piece by piece, in bounded memory whatever its header asks for."""
    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_DECODER_BYTES)
    while not decoder.eof:
        piece = packed.read(PIECE_BYTES) if decoder.needs_input else b""
        if decoder.needs_input and not piece:
            raise EOFError("it was cut short")
        yield decoder.decompress(piece, PIECE_BYTES)

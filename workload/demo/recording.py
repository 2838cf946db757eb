"""What a recording is: a folder with the series of recorded runs, what the runs left, and where that was."""

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
# Of a file of a recording when it is unpacked, and of all files of one of its runs: three times what was ever recorded.
MAX_BYTES = 512 * 2**20
MAX_DECODER_BYTES = 128 * 2**20
PIECE_BYTES = 2**20


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("a label is one line of plain text")
    return text


class RecordedRun(BaseModel):
    """What a recording's manifest says of a run, as far as it is used."""

    model_config = ConfigDict(frozen=True, strict=True)

    windows: Count


class RecordingManifest(BaseModel):
    """A recording's manifest, as far as it is used; see `Recording`."""

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
    """A folder as `benchmarks/reference_run` writes it.

    Attributes:
        folder: where it lies.
        label: on what it was recorded, in words that every picture of it repeats.
        start, end: time of the first and last sample, in seconds since the epoch.
        runs: names of the runs that have at least one closed window, in order of time.
    """

    folder: Path
    label: str
    start: float
    end: float
    runs: tuple[str, ...] = ()


def find_recordings(folder: Path) -> list[Recording]:
    """Return the recordings in a folder, or the one that the folder is.

    Raises:
        UsageError: there is none, its manifest cannot be used, or something in it leads out of its folder.
    """
    manifests = sorted({*folder.glob(MANIFEST), *folder.glob(f"*/{MANIFEST}")})
    if not manifests:
        raise UsageError(f"There is no recording in {folder}.", "Give the folder of one, with its manifest.json.")
    return [_read(path) for path in manifests]


def _read(path: Path) -> Recording:
    refuse_ways_out(path.parent)
    try:
        told = RecordingManifest.model_validate(json_of(path))
    except (OSError, *DAMAGE) as error:
        said = type(error).__name__ if isinstance(error, ValidationError) else repr(error)
        raise UsageError(f"{path} is no manifest of a recording ({said}).", "Record or unpack it again.") from error
    runs = tuple(sorted(name for name, run in told.runs.items() if run.windows))
    return Recording(path.parent, told.label, told.start, told.end, runs)


def unpack(source: Path, target: Path, most: int = MAX_BYTES) -> int:
    """Copy a file of a recording, unpacked if it is packed, to a new file; return its size in bytes.

    Raises:
        UsageError: it is missing or damaged, or has more than `most` bytes when it is unpacked.
        StorageError: it cannot be written.
    """
    size = 0
    try:
        make_folder(target.parent)
        target.unlink(missing_ok=True)
        descriptor = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, OWNER_ONLY)
        with os.fdopen(descriptor, "wb") as plain:
            for piece in _unpacked(source, most):
                size += plain.write(piece)
    except (lzma.LZMAError, EOFError, FileNotFoundError) as error:
        target.unlink(missing_ok=True)
        raise UsageError(f"{source} is missing or damaged ({error}).", "Unpack the recording again.") from error
    except OSError as error:
        raise StorageError(f"{target} cannot be written: {error.strerror}.", "Free some space.") from error
    return size


def _unpacked(source: Path, most: int) -> Iterator[bytes]:
    """Yield the content of a file in pieces that fit in memory."""
    with os.fdopen(os.open(source, os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
        plain = iter(lambda: stream.read(PIECE_BYTES), b"")
        for piece in _decompressed(stream) if source.suffix == PACKED else plain:
            if (most := most - len(piece)) < 0:
                raise EOFError("it unpacks to more than any recording")
            yield piece


def _decompressed(packed: BinaryIO) -> Iterator[bytes]:
    """Yield what a compressed file holds, a piece at a time, whatever it claims to need."""
    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_DECODER_BYTES)
    while not decoder.eof:
        piece = packed.read(PIECE_BYTES) if decoder.needs_input else b""
        if decoder.needs_input and not piece:
            raise EOFError("it was cut short")
        yield decoder.decompress(piece, PIECE_BYTES)

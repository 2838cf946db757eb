"""The manifest of a run, checked before use: it may be damaged, or come from a stranger."""

from __future__ import annotations

import csv
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from workload.errors import UsageError
from workload.paths import NAME_PATTERN
from workload.record.bundle import read_manifest
from workload.record.results import Measured
from workload.settings import PART_OF, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LATEST_SECONDS = 4_102_444_800.0
"""2100-01-01: no run is later."""

LONGEST_WINDOW_SECONDS = 31 * 86_400.0
MAX_COUNT = 2**53
# What reading a damaged file may raise; the readers of single files say more if they can.
DAMAGE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
    csv.Error,
)

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Word = Annotated[str, Field(max_length=512)]
Time = Annotated[float, Field(ge=0, le=LATEST_SECONDS, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class WindowEntry(_Strict):
    """A measured window, see `workload.record.window.Window`."""

    arm: Name
    block: Count
    point: Name
    segment: Count
    start: Time
    end: Time

    @model_validator(mode="after")
    def _runs_forward(self) -> WindowEntry:
        if not 0 <= self.end - self.start <= LONGEST_WINDOW_SECONDS:
            raise ValueError("a window ends after its start, within a month")
        return self


class EngineEntry(BaseModel):
    """The facts of a window's engine. Fields that are drawn or compared are checked; others pass unchecked."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")

    version: Word | None = None
    model: Word | None = None
    block_size: Count | None = None
    num_gpu_blocks: Count | None = None
    prefix_caching: bool | None = None
    has_random_weights: bool | None = None


class AccountEntry(BaseModel):
    """How a window's questions ended; other fields pass unchecked."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")

    sent: Count


class MeasuredEntry(_Strict):
    """A row of `measured`, see `workload.record.results.Measured`."""

    window: WindowEntry
    engine: EngineEntry
    counters: dict[Word, Annotated[float, Field(ge=0, allow_inf_nan=False)] | None]
    accounting: AccountEntry


class Manifest(BaseModel):
    """The manifest's fields that are used.

    Attributes:
        settings: the run's settings, flat, not yet checked by `workload.settings.Settings`.
        plan: of a soak, not yet checked by `workload.soak.plan.SoakPlan`.
        label: of a recording, repeated in each of its pictures.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    experiment: Name
    status: Word = "damaged"
    settings: dict[str, Any]
    plan: dict[str, Any] = {}
    measured: list[MeasuredEntry] = []
    label: Word = ""

    @property
    def known_settings(self) -> Settings:
        """The settings of a run that is only read, without those that only older releases had."""
        return Settings.of({name: value for name, value in self.settings.items() if name in PART_OF})

    @property
    def windows(self) -> tuple[Measured, ...]:
        """The measured windows."""
        return tuple(Measured.from_manifest(part.model_dump(exclude_unset=True)) for part in self.measured)

    @property
    def past_windows(self) -> tuple[Measured, ...]:
        """The measured windows without the folder of the engine's model, which a stranger's file must not name."""
        return tuple(
            replace(part, engine={key: value for key, value in part.engine.items() if key != "model_path"})
            for part in self.windows
        )


def manifest_in(folder: Path) -> Manifest:
    """Return the manifest in a run's folder, which `workload.files.enclosed` has checked.

    Raises:
        UsageError: there is no manifest, or it is damaged or of another release.
    """
    found = read_manifest(folder)
    with readable(folder.name):
        return Manifest.model_validate(found)


@contextmanager
def readable(run: str) -> Iterator[None]:
    """Turn failures to read a run's files into one line that says they are damaged or of another release."""
    try:
        yield
    except DAMAGE as error:
        where = ""
        if isinstance(error, ValidationError):
            first = error.errors(include_url=False, include_input=False)[0]
            where = f" at {'.'.join(map(str, first['loc']))[:80]!r}"
        raise UsageError(
            f"The files of run {run} are damaged, or of another release ({type(error).__name__}{where}).",
            "Use the release that wrote them, or start a new run.",
        ) from error

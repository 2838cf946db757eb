"""The options of a soak, checked before anything starts; and durations as people write them."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from workload.errors import UsageError
from workload.settings import MAX_CONCURRENCY

UNITS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
DURATION = re.compile(r"(?=.)(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?", re.ASCII)
LONGEST_SECONDS = 30 * 86_400.0


def seconds_of(text: Any) -> Any:
    """Return the seconds of a duration such as 8h, 90m, 1h30m or 45s; a value that is not text is returned unchanged.

    Raises:
        ValueError: the text has another form.
    """
    if not isinstance(text, str):
        return text
    found = DURATION.fullmatch(text)
    if not found:
        raise ValueError("write it as 8h, 90m, 1h30m or 45s")
    return sum(float(part) * unit for part, unit in zip(found.groups(), UNITS.values(), strict=True) if part)


Seconds = Annotated[float, BeforeValidator(seconds_of), Field(gt=0, le=LONGEST_SECONDS, allow_inf_nan=False)]


class SoakPlan(BaseModel):
    """The options of a soak. Times are in seconds; a text such as `8h` is accepted too.

    Attributes:
        duration: how long questions are sent, with pauses, without downtime of the runner.
        rate: questions per second of an open loop (Poisson arrivals); None for a closed loop.
        questions: end after this many questions, even if time is left; None for no such end.
        segment: the length of a segment, which is summarised by itself.
        repeats: whether a question may be asked again within the prefix cache's reach; by default each lap through the
            corpus has a cache salt of its own, so that a repeated question finds nothing of its earlier self.
        dry_run: the actions of alerts are recorded and not taken.
        pause_patience: how long an alert or a lost heartbeat may pause the run before the run ends.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    duration: Seconds
    concurrency: int = Field(default=1, ge=1, le=MAX_CONCURRENCY)
    rate: float | None = Field(default=None, gt=0, le=1000, allow_inf_nan=False)
    questions: int | None = Field(default=None, ge=1)
    segment: Seconds = 300.0
    profile: str = "prefix-on"
    repeats: bool = False
    alerts: bool = True
    dry_run: bool = False
    pause_patience: Seconds = 1800.0


def load_plan(flags: dict[str, Any]) -> SoakPlan:
    """Return a soak's plan for the given flags.

    Raises:
        UsageError: a value is out of range; the message names the flag and what is allowed.
    """
    try:
        return SoakPlan.model_validate({name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]).replace("_", "-")
        why = first["msg"].removeprefix("Value error, ").lower()
        raise UsageError(
            f"--{name} = {first['input']!r} is not possible: {why}.", "See `hop2rag soak --help`."
        ) from error

"""Reads arms of the command line: `NAME`, or `NAME:key=value,...` with options of the agent and fields of a profile."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from workload.agent.prompts import LAYOUTS
from workload.engine.profile import PROFILES, VllmProfile
from workload.errors import UsageError
from workload.experiment import Arm
from workload.paths import NAME_PATTERN
from workload.settings import AgentOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

ENGINE_FIELDS = tuple(field.name for field in fields(VllmProfile) if field.name != "name")
SYNTAX = "Write NAME or NAME:key=value,key=value."
MIN_ARMS = 2


def parse_arms(texts: Sequence[str], *, is_ours: bool = True) -> tuple[Arm, ...]:
    """Return the arms in the order given; the first is what the others are compared with.

    Of an app that is not ours, each key that is no field of a profile is an option of the app.

    Raises:
        UsageError: there are fewer than two, two have the same name, or one cannot be read.
    """
    arms = tuple(parse_arm(text, is_ours=is_ours) for text in texts)
    if len(arms) < MIN_ARMS:
        raise UsageError("A comparison needs two arms or more.", "Give --arm at least twice.")
    if len({arm.name for arm in arms}) < len(arms):
        raise UsageError("Two arms have the same name.", "Name them apart: --arm NAME:key=value.")
    return arms


def parse_arm(text: str, *, is_ours: bool = True) -> Arm:
    """Return one arm. A name without options selects the layout or profile of that name, if any, else the defaults.

    Raises:
        UsageError: the name or a pair cannot be read, or there is no such option, profile or value.
    """
    name, _, rest = text.partition(":")
    if not NAME_PATTERN.match(name):
        raise UsageError(f"{name!r} cannot name an arm.", "Use 1 to 64 letters, digits, dots, dashes or underscores.")
    options = read_options(rest.split(",")) if rest else {}
    if is_ours and not rest and name in LAYOUTS:
        options = {"layout": name}
    profile = options.pop("profile", name if name in PROFILES and not rest else "base")
    if profile not in PROFILES:
        raise UsageError(f"There is no profile {profile!r}.", f"There are: {', '.join(PROFILES)}.")
    engine = {key: options.pop(key) for key in ENGINE_FIELDS if key in options}
    if not is_ours:
        options = {"app_option": options} if options else {}
    if unknown := sorted(options.keys() - AgentOptions.model_fields.keys()):
        known = ", ".join(("profile", *AgentOptions.model_fields, *ENGINE_FIELDS)).replace("_", "-")
        raise UsageError(f"Arm {name}: there is no option {unknown[0]!r}.", f"There are: {known}.")
    arm = Arm(name, profile, options=options, engine=_engine(name, engine))
    if options.get("sleeping") and not arm.vllm_profile.sleep_mode:
        raise UsageError(f"Arm {name}: its engine cannot sleep.", "Add sleep-mode=true to the arm.")
    return arm


def read_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Return the keys and values of `key=value` texts; a key may be written with dashes.

    Raises:
        UsageError: a pair has no `=`, or a key is given twice.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, is_given, value = pair.partition("=")
        key = key.strip().replace("-", "_")
        if not key or not is_given:
            raise UsageError(f"{pair!r} is not an option.", SYNTAX)
        if key in found:
            raise UsageError(f"{key!r} is given twice.", SYNTAX)
        found[key] = {"true": True, "false": False}.get(value.strip().lower(), value.strip())
    return found


def _engine(name: str, given: dict[str, Any]) -> dict[str, Any]:
    try:
        checked = TypeAdapter(VllmProfile).validate_python({"name": name, **given})
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"Arm {name}: {first['loc'][0]} = {first['input']!r} is not possible: {first['msg'].lower()}.",
            "See `hop2rag engine profiles`.",
        ) from error
    return {key: getattr(checked, key) for key in given}

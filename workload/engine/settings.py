"""The settings of programs that a run uses, its engine and an app; and the base of all parts of the settings."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from workload.engine.key import refuse_secrets

Words = BeforeValidator(lambda value: shlex.split(value) if isinstance(value, str) else value)


def _paired(value: Any) -> Any:
    """Return KEY=VALUE texts as a dictionary of texts; a key may be written with dashes."""
    if isinstance(value, Mapping):
        return {key: str(each).lower() if isinstance(each, bool) else each for key, each in value.items()}
    if not isinstance(value, list | tuple):
        return value  # which is refused as no dictionary
    found = {}
    for text in map(str, value):
        key, is_given, each = text.partition("=")
        if not key or not is_given:
            raise ValueError(f"{text!r} is not KEY=VALUE")
        found[key.strip().replace("-", "_")] = each.strip()
    return found


Pairs = Annotated[dict[str, str], BeforeValidator(_paired)]


class Part(BaseModel):
    """A part of the settings: frozen, without unknown names."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EngineSettings(Part):
    """The programs and files of the engine. A run that is resumed takes them from its own command line.

    Attributes:
        engine_python: the interpreter that starts vLLM; None for the packaged engine.
        model: the model's folder or repository.
        served_model: the model of a running engine that answers, or an adapter; None for its first model.
        tokenizer: the folder of a model, by whose tokenizer tokens are counted; None for the engine's own.
    """

    engine_python: Path | None = None
    model: str | None = Field(default=None, min_length=1)
    engine_args: Annotated[tuple[str, ...], Words, AfterValidator(refuse_secrets)] = ()
    served_model: str | None = Field(default=None, min_length=1, max_length=256)
    tokenizer: Path | None = None


class AppSettings(Part):
    """An app in place of our agent. A run that is resumed takes it from its own command line.

    Attributes:
        app: `package.module:name` of a compiled graph or of a factory; None for Hop2Rag.
        inputs: the file of its inputs.
    """

    app: str | None = Field(default=None, min_length=1, max_length=256)
    inputs: Path | None = None

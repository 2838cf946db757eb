"""The tokens of one LLM call, as its server counted them."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator
from pydantic.dataclasses import dataclass

Tokens = Annotated[int, Field(ge=0, lt=2**63)]  # what a 64-bit column holds, and a counter may grow by
Word = Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]{1,64}$")]


@dataclass(frozen=True, config=ConfigDict(strict=True))
class Usage:
    """Tokens of one call, None where the server omits them, and why generation ended, as one printable word.

    This is the only place that checks a server's figures: counters, journal, spans and bounds rely on it. Nothing is
    converted: a count that arrives as a float or a string is refused.

    Raises:
        ValueError: a field is impossible.
    """

    prompt_tokens: Tokens
    completion_tokens: Tokens
    cached_tokens: Tokens | None = None
    finish_reason: Word | None = None

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.cached_tokens is not None and self.cached_tokens > self.prompt_tokens:
            raise ValueError("more tokens are cached than were sent")
        return self

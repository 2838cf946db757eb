"""A chat message, as the OpenAI API takes it."""

from __future__ import annotations

from typing import Literal, TypedDict


class Message(TypedDict):
    """One chat message."""

    role: Literal["system", "user", "assistant"]
    content: str

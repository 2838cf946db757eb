"""A chat message in the format of the OpenAI API."""

from __future__ import annotations

from typing import Literal, TypedDict


class Message(TypedDict):
    """One chat message."""

    role: Literal["system", "user", "assistant"]
    content: str

"""What the tap adds to a request for a completion, and what the client must therefore not see in the answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

PATHS = frozenset({"/v1/chat/completions", "/v1/completions"})
UNREADABLE = (ValueError, RecursionError)


@dataclass(frozen=True)
class Additions:
    """What was added to a request: token ids, and the usage of a stream.

    `is_single` says that the stream has one choice, so that its usage follows directly on that choice's end.
    """

    ids: bool
    usage: bool
    is_single: bool = True


def read_body(content: bytes) -> dict[str, Any] | None:
    """Return the JSON object in a request's body; None if it is none, as the server will say."""
    try:
        body = json.loads(content)
    except UNREADABLE:
        return None
    return body if isinstance(body, dict) else None


def salt_of(body: Mapping[str, Any]) -> str:
    """Return the salt that isolates the request in the prefix cache; empty without one."""
    salt = body.get("cache_salt")
    return salt if isinstance(salt, str) else ""


def is_batch(body: Mapping[str, Any]) -> bool:
    """Return whether a request has several prompts, which share one answer and one usage."""
    prompt = body.get("prompt")
    return isinstance(prompt, list) and len(prompt) > 1 and isinstance(prompt[0], str | list)


def add(body: Mapping[str, Any], fields: Mapping[str, Any]) -> tuple[bytes, Additions]:
    """Return the request to send, with token ids, a stream's usage and these `fields`; and what was added.

    Neither is added where it would change the answer: `echo` with token ids leaves out the echo, and a request that
    does not stream must not have `stream_options`.
    """
    sent = dict(body)
    options = body.get("stream_options")
    added = Additions(
        ids=body.get("return_token_ids") is not True and not body.get("echo"),
        usage=body.get("stream") is True and (options is None or _lacks_usage(options)),
        is_single=body.get("n") in {None, 1} and not is_batch(body),
    )
    if added.ids:
        sent["return_token_ids"] = True
    if added.usage:
        sent["stream_options"] = {**(options or {}), "include_usage": True}
    for name, value in fields.items():
        own = body.get(name)
        sent[name] = {**value, **own} if isinstance(own, dict) and isinstance(value, dict) else value
    return json.dumps(sent).encode(), added


def _lacks_usage(options: Any) -> bool:
    return isinstance(options, dict) and options.get("include_usage") is not True

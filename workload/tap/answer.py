"""Reads the answer to a completion, whole or event by event, and takes out what the tap had added to the request.

With `return_token_ids` vLLM fills fields that are null without it, and sends events that it otherwise leaves out: those
of a token without text. With `include_usage` it sends a further event without choices.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from exporter.agent.llm_failures import reason_of
from exporter.agent.usage import Usage
from workload.tap.request import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workload.agent.reuse_order import Arrival, ReuseOrder
    from workload.tap.request import Additions

ID_FIELDS = ("prompt_token_ids", "token_ids")
MALFORMED = (ValueError, TypeError, AttributeError, LookupError, OverflowError)
DATA, DONE = b"data:", b"[DONE]"


class Call(Protocol):
    """What the tap tells of a call to whoever meters it; `workload.agent.calls.CallMeter` is one."""

    reuse: ReuseOrder
    arrival: Arrival
    response_id: str
    reason: str | None
    usage: Usage | None

    @property
    def request_fields(self) -> Mapping[str, Any]:
        """The fields that the request gets besides."""
        ...

    def chunk(self) -> None:
        """Take that a chunk with tokens has come."""

    def prompt_ids(self, ids: Sequence[int]) -> None:
        """Take the prompt's token ids."""

    def finished(self, usage: Usage, output_ids: Sequence[int]) -> None:
        """Take usage and generated ids."""


@dataclass
class _Event:
    """An event to pass on: its JSON, and the bytes in which it came."""

    part: dict[str, Any]
    data: bytes
    is_edited: bool

    def bytes(self) -> bytes:
        if not self.is_edited:
            return self.data
        return DATA + b" " + encoded(self.part) + self.data[len(self.data.rstrip()) :]


class RefusedError(Exception):
    """The server answered with an error."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status_code = status


class Answer:
    """The answer to one metered call.

    Args:
        call: gets the response's id, first token, token ids and usage.
        added: what the client did not ask for.
        has_bound: whether the prompt's ids are one prompt's.

    Attributes:
        outputs: the generated ids by the index of their choice.
    """

    def __init__(self, call: Call, added: Additions, *, has_bound: bool = True) -> None:
        self.outputs: defaultdict[int, list[int]] = defaultdict(list)
        self._call, self._added, self._has_bound = call, added, has_bound
        self._usage: Any = None
        self._finish_reason: Any = None
        self._fault: str | None = None
        self._held: _Event | None = None
        self._prompt: Sequence[int] = ()

    def event(self, data: bytes) -> bytes:
        """Return what the client gets for one event of a stream: the same bytes if nothing in it was added.

        The end of the only choice waits for the usage that follows at once: vLLM puts its fingerprint into the last
        event, which without usage is that end.
        """
        text = data.strip()
        payload = text.removeprefix(DATA).strip()
        if payload == DONE:
            self.end()  # a client that has this may ask for the call's tokens at once
        if not text.startswith(DATA) or payload == DONE or b"\n" in payload:
            return self.held() + data
        part = self._parsed(payload, is_event=True)
        if part is None:
            return self.held() + data
        choices = choices_of(part)
        if self._added.usage and not choices and part.get("usage"):
            return self.held(part.get("system_fingerprint"))
        if self._added.ids and choices and all(map(_is_for_ids, choices)):
            return self.held()
        earlier = self.held()
        shown = _Event(part, data, is_edited=self._hide(part, choices))
        if self._added.usage and self._added.is_single and any(choice.get("finish_reason") for choice in choices):
            self._held = shown
            return earlier
        return earlier + shown.bytes()

    def held(self, fingerprint: Any = None) -> bytes:
        """Return the event that waits, with the fingerprint that moved to the usage; nothing if none waits."""
        held, self._held = self._held, None
        if held is None:
            return b""
        if fingerprint is not None and "system_fingerprint" not in held.part:
            held.part["system_fingerprint"] = fingerprint
            held.is_edited = True
        return held.bytes()

    def whole(self, data: bytes) -> bytes:
        """Return the body of an answer that is no stream as the client gets it."""
        part = self._parsed(data, is_event=False)
        return encoded(part) if part is not None and self._hide(part, choices_of(part)) else data

    def refused(self, status: int, data: bytes) -> None:
        """Note that the server answered with an error."""
        self.failed(reason_of(RefusedError(status, data.decode(errors="replace")), has_begun=False))

    def failed(self, reason: str) -> None:
        """Note that the answer has ended for this reason, unless it turns out to be complete."""
        self._call.reason = reason

    def settle(self) -> None:
        """Give the call the prompt's ids; it hashes them, so the client gets its first token before."""
        ids, self._prompt = self._prompt, ()
        if ids and self._has_bound and self._call.arrival.prompt is None:
            try:
                self._call.prompt_ids(ids)
            except MALFORMED:
                self._fault = "server_error"

    def end(self) -> None:
        """Give the call its usage and ids if the answer is complete; else it failed, or was cancelled."""
        self.settle()
        if self._fault:
            self.failed(self._fault)
        elif self._usage is not None and self._finish_reason is not None and self._call.usage is None:
            try:
                self._finish()
            except MALFORMED:
                self.failed("server_error")

    def _finish(self) -> None:
        details = self._usage.get("prompt_tokens_details") or {}
        usage = Usage(
            prompt_tokens=self._usage["prompt_tokens"],
            completion_tokens=self._usage["completion_tokens"],
            cached_tokens=details.get("cached_tokens"),
            finish_reason=self._finish_reason,
        )
        outputs = [self.outputs[index] for index in sorted(self.outputs)] if self._has_bound else []
        for output in outputs[1:]:
            self._call.reuse.output(self._call.arrival, output)
        self._call.finished(usage, outputs[0] if outputs else ())

    def _parsed(self, payload: bytes, *, is_event: bool) -> dict[str, Any] | None:
        """Return the JSON object in a payload, after reading it; None if it is none."""
        try:
            part = json.loads(payload)
        except UNREADABLE:
            self._fault = "server_error"
            return None
        if not isinstance(part, dict):
            return None
        try:
            self._read(part, is_event=is_event)
        except MALFORMED:
            self._fault = "server_error"
        return part

    def _read(self, part: dict[str, Any], *, is_event: bool) -> None:
        self._call.response_id = self._call.response_id or str(part.get("id") or "")
        if part.get("error") is not None:
            self._fault = "server_error"
        self._usage = part.get("usage") or self._usage
        prompt = part.get("prompt_token_ids")
        for choice in part.get("choices") or ():
            ids = choice.get("token_ids") or ()
            prompt = prompt or choice.get("prompt_token_ids")
            said = choice.get("text") or any(
                value for name, value in (choice.get("delta") or {}).items() if name != "role"
            )
            if is_event and (ids or said):
                self._call.chunk()
            self.outputs[choice["index"]].extend(ids)
            self._finish_reason = choice.get("finish_reason") or self._finish_reason
        self._prompt = self._prompt or prompt or ()

    def _hide(self, part: dict[str, Any], choices: list[dict[str, Any]]) -> bool:
        """Take out what was added; return whether there was anything."""
        held = [
            (holder, name)
            for holder in ([part, *choices] if self._added.ids else ())
            for name in ID_FIELDS
            if holder.get(name) is not None
        ]
        for holder, name in held:
            holder[name] = None
        has_usage = self._added.usage and "usage" in part
        if has_usage:
            del part["usage"]
        return bool(held) or has_usage


def choices_of(part: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the choices in an event or in a whole answer."""
    choices = part.get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


def encoded(part: dict[str, Any]) -> bytes:
    """Return JSON as vLLM writes it, without spaces."""
    return json.dumps(part, separators=(",", ":")).encode()


def _is_for_ids(choice: dict[str, Any]) -> bool:
    """Return whether an event's choice carries nothing but token ids."""
    return choice.get("delta") == {} and not choice.get("finish_reason") and not choice.get("logprobs")

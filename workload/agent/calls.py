"""One LLM call of our own agent: with the reuse bound of its prompt, and its columns in the journal."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from exporter.agent.recorder import CANCELLED, LlmCall, Recorder
from exporter.agent.spans import REQUEST_MODEL, trace_headers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.trace import Span

    from exporter.agent.usage import Usage
    from workload.agent.reuse_order import ReuseOrder
    from workload.engine.message import Message


class CallMeter(LlmCall):
    """Meters one LLM call, which counts as failed unless `finished` was reached; set `reason` where it is known."""

    def __init__(
        self, recorder: Recorder, parent: Span, node: str, hop: int, retry: int, *, reuse: ReuseOrder, salt: str
    ) -> None:
        super().__init__(recorder, parent, node, hop, retry)
        self.reuse = reuse
        self.arrival = reuse.send(salt)
        self.messages: Sequence[Message] = ()
        self.reply = ""

    def trace_headers(self, model: str) -> dict[str, str]:
        """Set the model on the span, and return the headers that nest the server's spans under it."""
        self.span.set_attribute(REQUEST_MODEL, model)
        return trace_headers(self.span)

    def prompt_ids(self, ids: Sequence[int]) -> None:
        """Take the prompt's token ids, as the server reports them."""
        self.reuse.prompt(self.arrival, ids)

    def finished(self, usage: Usage, output_ids: Sequence[int]) -> None:
        """Take the server's usage and the token ids that it generated."""
        self.reuse.output(self.arrival, output_ids)
        self.usage = usage

    def said(self, messages: Sequence[Message], reply: str) -> None:
        """Take the texts; the journal keeps them only if the run asks for it."""
        self.messages, self.reply = messages, reply

    def end(self) -> None:
        """Close the call as it ended."""
        self.close(None if self.usage else self.reason or CANCELLED)

    def row(self) -> dict[str, Any]:
        """Return the journal's columns of the closed call; times are in seconds."""
        return {
            "node": self.node,
            "hop": self.hop,
            "retry": self.retry,
            "duration_seconds": self.seconds,
            "ttft_seconds": self.ttft,
            "outcome": "failed" if self.reason else "ok",
            "reason": self.reason,
            "block_hashes": self.reuse.hashes(self.arrival),
            **(asdict(self.usage) if self.usage else {}),
        }

    def text(self) -> dict[str, Any]:
        """Return the journal's columns of the call's texts and token ids."""
        return {
            "messages": json.dumps(list(self.messages)),
            "reply": self.reply,
            "prompt_ids": bytes(self.arrival.prompt or b""),
            "output_ids": bytes(self.arrival.output or b""),
        }

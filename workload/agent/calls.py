"""The record of one LLM call: its times, the server's usage, the reuse bound of its prompt, its span."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self

from opentelemetry.trace import INVALID_SPAN
from pydantic import ConfigDict, Field, StringConstraints, model_validator
from pydantic.dataclasses import dataclass as checked

from exporter.agent.instruments import hop_label
from exporter.agent.spans import FINISH_REASONS, REQUEST_MODEL, TIME_TO_FIRST_CHUNK, tell_usage, trace_headers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.trace import Span

    from workload.agent.metering import QuestionMeter
    from workload.agent.reuse import Arrival
    from workload.engine.message import Message


# What the journal's 64-bit columns hold, and a counter may be raised by.
Tokens = Annotated[int, Field(ge=0, lt=2**63)]
Word = Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]{1,64}$")]


@checked(frozen=True, config=ConfigDict(strict=True))
class Usage:
    """What the server said about a call: tokens, None where it did not say, and in a printable word why it ended.

    This is the one place where a server's figures are checked: counters, journal, spans and bounds take them as they
    are. Nothing is converted: a count that is a float or a text is a server that cannot be believed.

    Raises:
        ValueError: a field cannot be true.
    """

    prompt_tokens: Tokens
    completion_tokens: Tokens
    cached_tokens: Tokens | None
    finish_reason: Word

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.cached_tokens is not None and self.cached_tokens > self.prompt_tokens:
            raise ValueError("more tokens are cached than were sent")
        return self


@dataclass
class CallMeter:
    """The record of one LLM call. Set `reason` when it fails; see `exporter.agent.instruments.ERROR_REASONS`."""

    question: QuestionMeter
    node: str
    hop: int
    started: float
    arrival: Arrival
    span: Span = INVALID_SPAN
    retry: int = 0
    ttft: float | None = None
    usage: Usage | None = None
    reason: str | None = None
    messages: Sequence[Message] = ()
    reply: str = ""

    def first_token(self) -> None:
        """Note the time of the first token; later calls change nothing."""
        if self.ttft is None:
            self.ttft = self.question.meter.monotonic() - self.started
            self.span.set_attribute(TIME_TO_FIRST_CHUNK, self.ttft)

    def trace_headers(self, model: str) -> dict[str, str]:
        """Note the model, and return the headers that let the server's own spans nest under this call's."""
        self.span.set_attribute(REQUEST_MODEL, model)
        return trace_headers(self.span)

    def prompt_ids(self, ids: Sequence[int]) -> None:
        """Take the prompt's token ids, as the server counts them."""
        self.question.meter.reuse.prompt(self.arrival, ids)

    def finished(self, usage: Usage, output_ids: Sequence[int]) -> None:
        """Take the server's usage and the ids it generated."""
        self.question.meter.reuse.output(self.arrival, output_ids)
        self.usage = usage
        tell_usage(self.span, usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
        self.span.set_attribute(FINISH_REASONS, [usage.finish_reason])

    def said(self, messages: Sequence[Message], reply: str) -> None:
        """Take the texts; they are kept only if the run was asked to."""
        self.messages, self.reply = messages, reply

    def _text(self) -> dict[str, Any]:
        return {
            "messages": json.dumps(list(self.messages)),
            "reply": self.reply,
            "prompt_ids": bytes(self.arrival.prompt or b""),
            "output_ids": bytes(self.arrival.output or b""),
        }

    def record(self) -> None:
        """Count the call and write it down; the reuse bound follows once every earlier call is known."""
        meter = self.question.meter
        duration = meter.monotonic() - self.started
        node, hop = meter.metrics.llm_node(self.node), hop_label(self.hop)
        row: dict[str, Any] = {
            "question": self.question.row_id,
            "node": self.node,
            "hop": self.hop,
            "retry": self.retry,
            "started_at": self.started + self.question.anchor,
            "duration_seconds": duration,
            "ttft_seconds": self.ttft,
            "outcome": "ok" if self.usage else "failed",
            "reason": None if self.usage else self.reason or "cancelled",
        }
        row["block_hashes"] = meter.reuse.hashes(self.arrival)
        if self.usage:
            meter.metrics.llm_call_duration.labels(node).observe(duration)
            row |= asdict(self.usage)
            self._count(node, hop, self.usage)
        else:
            meter.metrics.llm_errors.labels(node, row["reason"]).inc()
        self.question.calls.append(row)
        row_id = 0
        if meter.journal:
            row_id = row["id"] = meter.journal.new_id("llm_call")
            meter.journal.insert("llm_call", row)
            if meter.keeps_text and self.usage:
                meter.journal.insert("call_text", {"call": row_id, **self._text()})

        def know_bound(tokens: int) -> None:
            row["reusable_tokens"] = tokens
            if self.usage:  # the prompt tokens of a failed call are not known, so a share of them would exceed 1
                meter.metrics.expect(meter.metrics.reusable_prompt_tokens)
                meter.metrics.reusable_prompt_tokens.labels(node, hop).inc(tokens)
            if meter.journal:
                meter.journal.update("llm_call", row_id, {"reusable_tokens": tokens})

        meter.reuse.close(self.arrival, know_bound)

    def _count(self, node: str, hop: str, usage: Usage) -> None:
        metrics = self.question.meter.metrics
        if self.ttft is not None:
            metrics.llm_ttft.labels(node).observe(self.ttft)
        metrics.prompt_tokens.labels(node, hop).inc(usage.prompt_tokens)
        metrics.prompt_size.labels(node, hop).observe(usage.prompt_tokens)
        metrics.completion_tokens.labels(node, hop).inc(usage.completion_tokens)
        if usage.cached_tokens is not None:
            metrics.expect(metrics.cached_prompt_tokens)
            metrics.cached_prompt_tokens.labels(node, hop).inc(usage.cached_tokens)

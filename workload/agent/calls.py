"""One LLM call of our own agent: with the reuse bound of its prompt, and its columns in the journal."""

from __future__ import annotations

import json
from array import array
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from exporter.agent.recorder import CANCELLED, LlmCall, Recorder
from exporter.agent.spans import REQUEST_MODEL, trace_headers
from workload.fleet.account import FATES, Account

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.trace import Span

    from exporter.agent.usage import Usage
    from workload.agent.reuse_order import ReuseOrder
    from workload.engine.message import Message
    from workload.fleet.entry import Entry
    from workload.fleet.ledger_thread import LedgerThread


class CallMeter(LlmCall):
    """Meters one LLM call, which counts as failed unless `finished` was reached; set `reason` where it is known."""

    def __init__(
        self,
        recorder: Recorder,
        parent: Span,
        node: str,
        hop: int,
        retry: int,
        *,
        reuse: ReuseOrder,
        salt: str,
        ledger: LedgerThread | None = None,
    ) -> None:
        super().__init__(recorder, parent, node, hop, retry)
        self.reuse = reuse
        self.ledger = ledger
        self.session = uuid4().hex if ledger else ""
        self.arrival = reuse.send(salt)
        self.response_id = ""
        self.messages: Sequence[Message] = ()
        self.reply = ""
        self.gaps = array("I")
        self._last_chunk: int | None = None
        self.fingerprint: object = None

    def trace_headers(self, model: str) -> dict[str, str]:
        """Set the model on the span, and return the headers that nest the server's spans under it."""
        self.span.set_attribute(REQUEST_MODEL, model)
        return trace_headers(self.span)

    def send(self, at: float) -> None:
        """Announce the call to the ledger; `at` is in seconds since 1970."""
        if self.ledger:
            self.ledger.send(self.session, at)

    @property
    def request_fields(self) -> dict[str, Any]:
        """The fields that make the engine name the call in its KV cache events, its hits included."""
        if not self.ledger or not self.ledger.needs_session:
            return {}
        return {"session_id": self.session, "vllm_xargs": {"kv_cache_report_mode": "full"}}

    def chunk(self) -> None:
        """Record the arrival of a chunk with tokens: the first as the time to first token, others by their gap."""
        self.first_token()
        at = round(1e6 * self.elapsed())
        if self._last_chunk is not None:
            self.gaps.append(at - self._last_chunk)
        self._last_chunk = at

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

    def account(self, started_at: float, keep: Callable[[dict[str, Any]], object]) -> None:
        """Give the closed call to the ledger; `keep` gets the journal's columns of its tokens' fates, in a thread."""
        if not self.ledger:
            return
        if self.usage is None or self.arrival.prompt is None:
            self.ledger.drop(self.session)
            return
        account = Account(
            session=self.session,
            server=self.ledger.server_of(self.fingerprint),
            prompt=self.arrival.prompt,
            output=self.arrival.output or (),
            cached_tokens=self.usage.cached_tokens,
            started=started_at,
            ended=started_at + self.seconds,
            world=self.arrival.salt,
            on_close=lambda entry: keep(self._explain(entry)),
        )
        self.ledger.end(account)

    def _explain(self, entry: Entry) -> dict[str, Any]:
        chain = entry.chain
        self.explained(entry.fates, (len(entry.account.prompt), *chain) if chain else None)
        places = {"bound": chain.bound, "in_fleet": chain.in_fleet, "on_engine": chain.on_engine} if chain else {}
        engine = f"{entry.engine.server}#{entry.engine.rank}" if entry.engine else None
        return {"engine": engine, **dict.fromkeys(FATES, 0), **entry.fates, **places}

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

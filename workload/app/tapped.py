"""The calls that came through the tap, until the app's handler claims each by its response's id.

A handler sees which node calls, but no token ids; the tap sees the ids, but no node.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from exporter.agent.usage import Usage
    from workload.agent.reuse_order import ReuseOrder
    from workload.fleet.ledger_thread import LedgerThread
    from workload.tap.proxy import Told

MAX_UNCLAIMED = 1_000
OF_SERVER = ("chatcmpl-", "cmpl-")
"""How vLLM's ids of responses begin; what a library makes up in their place begins otherwise."""


@dataclass(eq=False)
class TappedCall:
    """One call as the tap sees it.

    Attributes:
        ttft: seconds to the first chunk with tokens; None where the app does not stream.
        gaps: microseconds between such chunks.
    """

    reuse: ReuseOrder
    salt: str
    _: KW_ONLY
    ledger: LedgerThread | None = None
    response_id: str = ""
    reason: str | None = None
    usage: Usage | None = None
    ttft: float | None = None
    started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.arrival = self.reuse.send(self.salt)
        self.gaps = array("I")
        self._last = 0.0
        self.session = uuid4().hex if self.ledger else ""
        if self.ledger:
            self.ledger.send(self.session, time.time())

    @property
    def request_fields(self) -> Mapping[str, Any]:
        """The salt that isolates the call, and what makes the engine name it in its KV cache events."""
        salt = {"cache_salt": self.salt} if self.salt else {}
        if not self.ledger or not self.ledger.needs_session:
            return salt
        return {**salt, "session_id": self.session, "vllm_xargs": {"kv_cache_report_mode": "full"}}

    def chunk(self) -> None:
        """Note the arrival of a chunk with tokens: the first as the time to first token, others by their gap."""
        seconds = time.perf_counter() - self.started
        if self.ttft is None:
            self.ttft = seconds
        else:
            self.gaps.append(round(1e6 * (seconds - self._last)))
        self._last = seconds

    def prompt_ids(self, ids: Sequence[int]) -> None:
        """Take the prompt's token ids."""
        self.reuse.prompt(self.arrival, ids)

    def finished(self, usage: Usage, output_ids: Sequence[int]) -> None:
        """Take usage and generated ids."""
        self.reuse.output(self.arrival, output_ids)
        self.usage = usage

    def drop(self) -> None:
        """End a call that nobody claims: later calls do not wait for it, and it has no account."""
        self.reuse.close(self.arrival, lambda _: None)
        if self.ledger:
            self.ledger.drop(self.session)


class TappedCalls:
    """The calls of one app on one engine. The tap opens them in its thread, handlers claim them in theirs.

    Attributes:
        salt: of the calls that bring none.
        seen: how many calls came.
        unclaimed: how many succeeded and were never claimed.
    """

    def __init__(self, reuse: ReuseOrder, ledger: LedgerThread | None) -> None:
        self._reuse, self._ledger = reuse, ledger
        self._calls: OrderedDict[int, TappedCall] = OrderedDict()
        self._lock = threading.Lock()
        self.salt = ""
        self.seen = 0
        self.unclaimed = 0

    @contextmanager
    def open(self, told: Told) -> Iterator[TappedCall]:
        """Keep a call from its request on; one that fails is dropped when it ends."""
        call = TappedCall(self._reuse, told.salt or self.salt, ledger=self._ledger)
        with self._lock:
            self.seen += 1
            self._calls[id(call)] = call
        try:
            yield call
        finally:
            if call.usage is None:
                self._forget(call)
            while len(self._calls) > MAX_UNCLAIMED:
                self._forget(next(iter(self._calls.values())))

    def claim(self, ids: Iterable[str]) -> TappedCall | None:
        """Return the finished call whose response has one of these ids and forget it; None if there is none.

        A client library may hide the id. Then the call is known only while no other one waits. An id of a server that
        is not found is of a call that did not come through the tap.
        """
        wanted = {each for each in ids if each}
        with self._lock:
            found = [call for call in self._calls.values() if call.usage and call.response_id in wanted]
            if not found and len(self._calls) == 1 and not any(each.startswith(OF_SERVER) for each in wanted):
                found = [call for call in self._calls.values() if call.usage]
            return self._calls.pop(id(found[0])) if found else None

    def end(self) -> None:
        """Drop the calls that nobody has claimed, and count them."""
        for call in list(self._calls.values()):
            self.unclaimed += call.usage is not None
            self._forget(call)

    def _forget(self, call: TappedCall) -> None:
        with self._lock:
            is_there = self._calls.pop(id(call), None)
        if is_there:
            call.drop()

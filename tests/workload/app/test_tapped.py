"""Calls of the tap, claimed by their responses' ids."""

from __future__ import annotations

from contextlib import ExitStack

from exporter.agent.usage import Usage
from workload.agent.reuse_order import ReuseOrder
from workload.app.tapped import TappedCalls
from workload.tap.proxy import Told

TOLD = Told(node="", question="", salt="")


def finish(calls: TappedCalls, stack: ExitStack, response: str) -> None:
    """Let a call answer, and stay open until the stack closes, as a connection does for a moment."""
    call = stack.enter_context(calls.open(TOLD))
    call.prompt_ids(range(40))
    call.response_id = response
    call.finished(Usage(40, 2), [1, 2])


def test_a_call_is_claimed_once_by_its_id() -> None:
    """Two calls in flight must not be exchanged; one that is not there is nobody's."""
    calls = TappedCalls(ReuseOrder(16), None)
    with ExitStack() as stack:
        for response in ("a", "b"):
            finish(calls, stack, response)
        found = calls.claim(["", "b"])
        assert found
        assert found.response_id == "b"
        assert found.arrival.reusable == 32
        assert calls.claim(["c", ""])  # "a": the only one that waits
        assert calls.claim(["a"]) is None
    assert (calls.seen, calls.unclaimed) == (2, 0)


def test_without_an_id_a_call_is_claimed_only_if_no_other_waits() -> None:
    """A guess could give a node another node's tokens."""
    calls = TappedCalls(ReuseOrder(16), None)
    with ExitStack() as stack:
        for response in ("a", "b"):
            finish(calls, stack, response)
        assert calls.claim([""]) is None
    calls.end()
    assert calls.unclaimed == 2


def test_a_servers_id_that_did_not_come_through_the_tap_claims_nothing() -> None:
    """An app may ask a second server; its node would get the tokens of the only call that waits."""
    calls = TappedCalls(ReuseOrder(16), None)
    with ExitStack() as stack:
        finish(calls, stack, "chatcmpl-a")
        assert calls.claim(["run--1", "chatcmpl-of-another"]) is None
        assert calls.claim(["run--1"])  # the library hides the id


def test_a_failed_call_delays_nobody() -> None:
    """The bound of later calls does not wait for a prompt that will never be known."""
    calls = TappedCalls(ReuseOrder(16), None)
    with calls.open(TOLD):
        pass
    with ExitStack() as stack:
        finish(calls, stack, "a")
        found = calls.claim(["a"])
    assert found
    assert found.arrival.reusable == 0

"""Ctrl-C and SIGTERM in a soak: the first lets questions finish, the second does not wait."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from workload.soak.signals import EXIT_CODES, orderly


async def raised(number: signal.Signals, handled: asyncio.Event) -> None:
    """Send a signal to this process, and return once the loop has handled it."""
    handled.clear()
    os.kill(os.getpid(), number)
    await asyncio.wait_for(handled.wait(), 30)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("second", list(EXIT_CODES))
async def test_the_first_ends_in_order_and_the_second_at_once(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int, second: signal.Signals
) -> None:
    """Whoever repeats it does not want to wait; the exit code is that of the signal which ended the process."""
    handled, ended, exits, said = asyncio.Event(), list[tuple[str, int]](), list[int](), list[str]()

    def end(name: str, exit_code: int) -> None:
        ended.append((name, exit_code))
        handled.set()

    def leave(exit_code: int) -> None:
        exits.append(exit_code)
        handled.set()
        raise RuntimeError  # as the real one, it does not return

    monkeypatch.setattr(os, "_exit", leave)
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    before = {each: signal.getsignal(each) for each in EXIT_CODES}
    with orderly(end, said.append):
        await raised(number, handled)
        assert (ended, exits) == ([(number.name, code)], [])
        await raised(second, handled)
        assert (len(ended), exits) == (1, [EXIT_CODES[second]])
    assert "in order" in said[0]
    assert "--resume" in said[1]
    assert {each: signal.getsignal(each) for each in EXIT_CODES} == before


async def test_the_handlers_of_before_are_back_after_a_failure() -> None:
    """The command line turns SIGTERM into an interruption: a soak that fails must not leave it deaf to it."""
    before = {each: signal.getsignal(each) for each in EXIT_CODES}
    with pytest.raises(RuntimeError), orderly(lambda *_: None, lambda _: None):
        raise RuntimeError
    assert {each: signal.getsignal(each) for each in EXIT_CODES} == before

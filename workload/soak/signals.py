"""Ctrl-C and SIGTERM: the first ends a soak in order, the second ends it at once."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


@contextmanager
def orderly(end: Callable[[str, int], object], say: Callable[[str], object]) -> Iterator[None]:
    """Handle the two signals inside the block; enter it in the event loop.

    `end` is called on the first signal with its name and exit code; `say` prints a line.
    """
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in EXIT_CODES}
    is_ending = False

    def take(number: signal.Signals) -> None:
        nonlocal is_ending
        if is_ending:
            say("Ended at once. Acknowledged questions are in the journal; continue with --resume.")
            # Not an exception: threads that wait for the engine would delay it. Children end with their parent.
            os._exit(EXIT_CODES[number])
        is_ending = True
        say("Ending in order: questions in flight may finish. Repeat the signal to end at once.")
        end(number.name, EXIT_CODES[number])

    for number in EXIT_CODES:
        loop.add_signal_handler(number, take, number)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)

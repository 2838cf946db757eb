"""Ctrl-C and SIGTERM: both interrupt a command, which stops what it started; the exit code says which one came."""

from __future__ import annotations

import signal

EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 143


class Termination:
    """Turns SIGTERM into the interruption that Ctrl-C causes, and remembers it for the exit code."""

    def __init__(self) -> None:
        self._came = False
        signal.signal(signal.SIGTERM, self._interrupt)

    def _interrupt(self, *_: object) -> None:
        self._came = True
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as for `hop2rag up &` in a script
            signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.raise_signal(signal.SIGINT)

    @property
    def exit_code(self) -> int:
        """The exit code of an interrupted command."""
        return EXIT_TERMINATED if self._came else EXIT_INTERRUPTED

"""Keeps the token ids of calls, if the user asks for it: a file that `hop2rag run kv-cache --prompts` reads."""

from __future__ import annotations

import json
import os
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from workload.errors import StorageError
from workload.files.atomic_file import OWNER_ONLY, make_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workload.agent.reuse_order import Arrival


@dataclass(eq=False)
class Slot:
    """The place of one call in the order of sending."""

    line: dict[str, Any] | None = None
    is_closed: bool = False

    def fill(self, question: str, node: str, arrival: Arrival) -> None:
        """Take the ids of a call that succeeded, and what its client told of it."""
        ids = {"prompt_token_ids": list(arrival.prompt or ()), "output_token_ids": list(arrival.output or ())}
        self.line = {**ids, **({"request": question} if question else {}), **({"node": node} if node else {})}


class PromptLog:
    """A file of calls in the order of sending, one JSON object per line, for the owner only; a context manager.

    A line waits until every call that was sent before has ended.

    Raises:
        StorageError: the file cannot be written, or is there already.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._slots: deque[Slot] = deque()
        try:
            make_folder(path.parent)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            self._file = os.fdopen(os.open(path, flags, OWNER_ONLY), "w", buffering=1)
        except OSError as error:
            raise StorageError(f"{path} cannot be written: {error.strerror}.", "Choose another --results.") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    @contextmanager
    def slot(self) -> Iterator[Slot]:
        """Keep the place of a call that is sent now, until it ends."""
        slot = Slot()
        self._slots.append(slot)
        try:
            yield slot
        finally:
            slot.is_closed = True
            while self._slots and self._slots[0].is_closed:
                if line := self._slots.popleft().line:
                    self._file.write(json.dumps(line) + "\n")


@contextmanager
def slot_of(log: PromptLog | None) -> Iterator[Slot]:
    """Keep a call's place in a log; without a log nothing is kept."""
    if log is None:
        yield Slot()
        return
    with log.slot() as slot:
        yield slot

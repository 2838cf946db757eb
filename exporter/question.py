"""What is known of a question, of a run inside it and of a call's tokens, while callbacks tell of them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable
    from uuid import UUID

    from opentelemetry.trace import Span


@dataclass(frozen=True)
class Usage:
    """Tokens of one call, as the server counted them; None where it did not tell."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None


@dataclass(eq=False)
class Question:
    """One question: its open runs, its slot on the timeline, and the steps in which each node has run.

    `active` is when its last run was opened.
    """

    worker: int = 0
    active: float = 0.0
    open: dict[UUID, Run] = field(default_factory=dict)
    steps: dict[str, dict[Hashable, int]] = field(default_factory=dict)

    def hop(self, node: str, step: Hashable) -> int:
        """Return how often the node has run, from 1; visits of the same step count once."""
        steps = self.steps.setdefault(node, {})
        return steps.setdefault(step, len(steps) + 1)

    @property
    def hops(self) -> int:
        """Return the visits of the node that ran most often."""
        return max((len(steps) for steps in self.steps.values()), default=0)


@dataclass
class Run:
    """One open run. Closing `timing` records it; the other fields say what to record.

    `span` is its own, or that of the run it lies in. `reason` says why it failed, and is None when it did not.
    """

    question: Question
    node: str
    hop: int
    started: float
    span: Span
    is_question: bool = False
    ttft: float | None = None
    usage: Usage | None = None
    reason: str | None = None
    timing: ExitStack = field(default_factory=ExitStack)

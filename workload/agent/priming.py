"""Primes the prefix cache: computes the common beginnings of all prompts before the first question needs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workload.agent.prompts import preambles

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workload.agent.llm import Llm
    from workload.agent.metering import Meter
    from workload.settings import Layout

QUESTION_ID = "preamble"


@dataclass(frozen=True)
class Primer:
    """Sends each preamble of a layout once, for one token; the journal has the cost as the calls of one question.

    A layout whose prompts begin with the question has no preamble, so priming does nothing.
    """

    llm: Llm
    meter: Meter
    layout: Layout

    async def prime(self, place: Mapping[str, Any], salt: str) -> None:
        """Compute the preambles under `salt`; `place` are the journal's columns of the phase.

        Raises:
            LlmError: a call failed; it has been counted by reason.
        """
        asked = preambles(self.layout)
        if not asked:
            return
        question = self.meter.question("0", QUESTION_ID, salt)
        question.open({**place, "question_id": QUESTION_ID, "attempt": 1})
        outcome = "failed"
        try:
            for node, messages in asked.items():
                await self.llm.compute(question, node, 1, messages, 1)
            outcome = "ok"
        finally:
            # not by `close`: the metrics count only questions that a user asked
            question.end(outcome)

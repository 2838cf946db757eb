"""Drives the agent with questions: each one is asked, scored, counted and acknowledged."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from workload.agent.llm import LlmError
from workload.corpus.scoring import score
from workload.harness.loops import Tally, closed_loop, open_loop
from workload.record.results import WARM_UP

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from workload.agent.graph import Answer, App
    from workload.agent.metering import Meter
    from workload.agent.priming import Primer
    from workload.corpus.hotpotqa import Question
    from workload.harness.health_gate import EngineGate


@dataclass(frozen=True, kw_only=True)
class Phase:
    """The place of questions in a run: arm, block, warm-up or point of the load, segment.

    A load that was interrupted is resumed in a further segment, on a new engine. `salt` isolates the phase in the
    prefix cache, so that nothing measured starts warm. `sent_before` counts, by question id, the attempts that an
    interruption cut off: the question is asked again, as a further attempt.
    """

    arm: str
    block: int
    name: str
    segment: int
    salt: str
    sent_before: Mapping[str, int] = field(default_factory=dict)

    @property
    def place(self) -> dict[str, Any]:
        """The phase in the journal's columns."""
        return {"arm": self.arm, "block": self.block, "phase": self.name, "segment": self.segment}


@dataclass(frozen=True)
class Driver:
    """Asks questions of one agent on one running engine."""

    agent: App
    meter: Meter
    gate: EngineGate
    primer: Primer | None = None

    async def run(
        self,
        phase: Phase,
        questions: Sequence[Question],
        concurrency: int,
        *,
        tally: Tally,
        advance: Callable[[], None],
        arrivals: Sequence[float] = (),
    ) -> None:
        """Ask all questions in a closed loop, or at their `arrivals` in an open one; see `workload.harness.loops`.

        `tally` is right also if this raises. `advance` is called after each question.

        Raises:
            DependencyDownError: the engine stopped answering, or the document store failed.
        """

        async def ask(question: Question, worker: str, intended: float | None = None) -> str | None:
            return await self.ask(phase, question, worker, intended)

        async def ended(reason: str | None) -> None:
            await self.meter.acknowledge()
            advance()
            if await self.gate.check(reason):
                await self.prime(phase)

        clock = self.meter.recorder.clock
        if arrivals:
            await open_loop(ask, questions, arrivals, in_flight=concurrency, tally=tally, ended=ended, clock=clock)
        else:
            await closed_loop(ask, questions, concurrency, tally, ended)

    async def prime(self, phase: Phase) -> None:
        """Warm the prefix cache for a phase if the agent has a primer, also after a possible restart of the engine.

        A failure is counted and leaves the cache cold; the questions that follow show whether the engine is well.
        """
        if self.primer:
            with suppress(LlmError):
                await self.primer.prime({**phase.place, "phase": WARM_UP}, phase.salt)

    async def ask(self, phase: Phase, question: Question, worker: str, intended: float | None = None) -> str | None:
        """Ask one question and journal the result. Returns the failure reason, or None on success.

        Raises:
            DependencyDownError: the document store failed.
        """
        meter = self.meter.question(worker, question.type, phase.salt, intended)
        meter.open({**phase.place, "question_id": question.id, "attempt": phase.sent_before.get(question.id, 0) + 1})
        try:
            answer = await self.agent.answer(question.given, meter)
        except BaseException:
            meter.close("cancelled", "error", 0, {})
            raise
        outcome = "failed" if answer.reason else "ok"
        row = result_row(question, answer, keeps_text=self.meter.keeps_text)
        meter.close(outcome, answer.termination, answer.hops, row)
        return answer.reason


def result_row(question: Question, answer: Answer, *, keeps_text: bool) -> dict[str, Any]:
    """Return the journal's columns of an answer. A failed question has a reason and no scores.

    Scores that need a gold answer or gold facts are None without them. The digest shows whether two questions took the
    same words to the same answer, without keeping the words.
    """
    if answer.reason:
        return {"reason": answer.reason}
    scores = score(answer.answer, question.answers, answer.supporting_facts, question.supporting_facts)
    trajectory = json.dumps(answer.trajectory)
    texts = {"answer": answer.answer, "trajectory": trajectory} if keeps_text else {}
    return {
        **texts,
        "digest": blake2b(f"{trajectory}\n{answer.answer}".encode(), digest_size=16).hexdigest(),
        "answer_em": scores.answer_em,
        "answer_f1": scores.answer_f1,
        "facts_em": scores.facts_em,
        "facts_f1": scores.facts_f1,
        "joint_f1": scores.joint_f1,
    }

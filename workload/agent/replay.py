"""Replays a recorded run: the engine computes the same prompts and lengths, the texts come from the recording.

So two arms do the same work token for token, and a model with random weights can be used. The timing of a replay is
real, its text is not, and every result says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from workload.agent.llm import Llm, LlmError
from workload.errors import UsageError
from workload.record import journal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pydantic import BaseModel

    from workload.agent.metering import QuestionMeter
    from workload.engine.message import Message


@dataclass(frozen=True)
class Recorded:
    """One reply of a recorded run: the node that called, the text, and its length in tokens."""

    node: str
    reply: str
    completion_tokens: int


LONGEST_REPLY_TOKENS = 10**6

Script = dict[str, tuple[Recorded, ...]]


def read_script(path: Path) -> Script:
    """Return the replies of each question, in order, from a journal that was written with `--record-prompts`.

    If a question was asked several times (in other arms or attempts), the first answer counts.

    Raises:
        UsageError: the journal has no texts, or a reply has an impossible length.
    """
    texts = {row["call"]: row["reply"] for row in journal.read(path, "call_text")}
    if not texts:
        raise UsageError(f"{path} contains no texts to replay.", "Record a run with --record-prompts first.")
    first: dict[str, int] = {}
    for row in journal.read(path, "question"):
        if row["outcome"] == "ok":
            first.setdefault(row["question_id"], row["id"])
    calls: dict[int, list[Recorded]] = {row_id: [] for row_id in first.values()}
    for call in journal.read(path, "llm_call"):
        if call["question"] in calls and call["id"] in texts:
            if not 0 <= (call["completion_tokens"] or 0) <= LONGEST_REPLY_TOKENS:
                raise UsageError(
                    f"{path} has an impossible length for the reply of call {call['id']}.", "Record another run."
                )
            calls[call["question"]].append(Recorded(call["node"], texts[call["id"]], call["completion_tokens"]))
    return {question_id: tuple(calls[row_id]) for question_id, row_id in first.items()}


@dataclass(frozen=True)
class ReplayLlm(Llm):
    """A language model that computes each call at the recorded length and returns the recorded text.

    Args:
        script: the recording.
        is_forced: whether decoding is guided to the recorded text. Then the engine caches the very reply that a growing
            log sends again, as in the recorded run; otherwise it caches another text of that length, which no call
            sends again. A model with random weights would use other tokens, and vLLM before 0.11 does not support it.
    """

    script: Mapping[str, Sequence[Recorded]] = field(default_factory=dict)
    is_forced: bool = False

    async def complete(
        self,
        question: QuestionMeter,
        node: str,
        hop: int,
        messages: Sequence[Message],
        max_tokens: int,  # noqa: ARG002 - the recorded length replaces it
        *,
        schema: type[BaseModel] | None = None,  # noqa: ARG002 - the recorded text already follows it
    ) -> str:
        """Make the call and return the recorded reply; see `Llm.complete`.

        Raises:
            LlmError: the call failed, or the recording has another call here (reason `not_recorded`).
        """
        replies = self.script.get(question.question_id, ())
        position = len([call for call in question.calls if call["outcome"] == "ok"])  # a refused one is sent again
        if position >= len(replies) or replies[position].node != node:
            raise LlmError("not_recorded")
        recorded = replies[position]
        if self.is_forced and recorded.reply:
            guide = {"choice": [recorded.reply]}
            await self._call(question, node, hop, messages, recorded.completion_tokens, structured_outputs=guide)
        else:
            await self.compute(question, node, hop, messages, recorded.completion_tokens)
        return recorded.reply

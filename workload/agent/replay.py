"""Replays a recorded run: the same prompts and lengths are really computed, the texts come from the record.

So two arms do the same work token for token, and a model with random weights can be driven. The timing of a replay is
real, its text is not, and every result of it says so.
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
    """One reply of a recorded run: the node that asked, the text, and its length in tokens."""

    node: str
    reply: str
    completion_tokens: int


LONGEST_REPLY_TOKENS = 10**6

Script = dict[str, tuple[Recorded, ...]]


def read_script(path: Path) -> Script:
    """Return the replies of each question, in order, from a journal that was written with `--record-prompts`.

    Of a question that was asked several times (other arms, another attempt) the first answer counts.

    Raises:
        UsageError: the journal has no texts, or a reply of a length that no engine can be asked for.
    """
    texts = {row["call"]: row["reply"] for row in journal.read(path, "call_text")}
    if not texts:
        raise UsageError(f"{path} holds no texts to replay.", "Record a run with --record-prompts first.")
    first: dict[str, int] = {}
    for row in journal.read(path, "question"):
        if row["outcome"] == "ok":
            first.setdefault(row["question_id"], row["id"])
    calls: dict[int, list[Recorded]] = {row_id: [] for row_id in first.values()}
    for call in journal.read(path, "llm_call"):
        if call["question"] in calls and call["id"] in texts:
            if not 0 <= (call["completion_tokens"] or 0) <= LONGEST_REPLY_TOKENS:
                raise UsageError(
                    f"{path} tells an impossible length of the reply of call {call['id']}.", "Record another run."
                )
            calls[call["question"]].append(Recorded(call["node"], texts[call["id"]], call["completion_tokens"]))
    return {question_id: tuple(calls[row_id]) for question_id, row_id in first.items()}


@dataclass(frozen=True)
class ReplayLlm(Llm):
    """A language model that computes what it is asked, at the recorded length, and says what was recorded.

    Args:
        script: the record.
        is_forced: whether decoding is guided to the recorded text. Then the engine's cache holds the very reply that a
            growing log sends again, as when it was recorded; else it holds one of the same length that nobody sends.
            A model with random weights would spell the text in other tokens, and servers before 0.11 do not know how.
    """

    script: Mapping[str, Sequence[Recorded]] = field(default_factory=dict)
    is_forced: bool = False

    async def complete(
        self,
        question: QuestionMeter,
        node: str,
        hop: int,
        messages: Sequence[Message],
        max_tokens: int,  # noqa: ARG002 - the recorded length takes its place
        schema: type[BaseModel] | None = None,  # noqa: ARG002 - the recorded text already follows it
    ) -> str:
        """Return the recorded reply after the call was made; see `Llm.complete`.

        Raises:
            LlmError: the call failed, or the record does not go on like this (reason `not_recorded`).
        """
        replies = self.script.get(question.question_id, ())
        position = len([call for call in question.calls if call["outcome"] == "ok"])  # a refused one is sent again
        if position >= len(replies) or replies[position].node != node:
            raise LlmError("not_recorded")
        recorded = replies[position]
        if self.is_forced and recorded.reply:
            guide = {"structured_outputs": {"choice": [recorded.reply]}}
            await self._call(question, node, hop, messages, recorded.completion_tokens, guide)
        else:
            await self.compute(question, node, hop, messages, recorded.completion_tokens)
        return recorded.reply

"""Calls of controlled prompt length: documents are added until a prompt has about the tokens asked for."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any

from workload.agent.llm import LlmError
from workload.agent.prompts import INSTRUCTIONS
from workload.engine.endpoint import open_client

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from workload.agent.state import Message
    from workload.drive import Phase
    from workload.engine.launcher import RunningEngine
    from workload.load import Tally
    from workload.subject import Subject

NODE = "generate"
GENERATED_TOKENS = 16
REPEATS = 3
TOKENIZE_TIMEOUT_SECONDS = 30.0


def lengths_of(contexts: Sequence[int]) -> list[int]:
    """Return the length of every call: each context `REPEATS` times, the rounds one after the other."""
    return [length for _ in range(REPEATS) for length in contexts]


async def sweep(
    subject: Subject,
    engine: RunningEngine,
    phase: Phase,
    contexts: Sequence[int],
    texts: Sequence[str],
    tally: Tally,
    advance: Callable[[], None],
) -> None:
    """Make one call at a time for each length and repeat, each under a cache salt of its own, so nothing is cached.

    The agent's own prompts are short; what a long context costs is seen only when it is really sent. How long a prompt
    came out is told by the server's usage; the lengths asked for are only aimed at. Each call is one question in the
    journal, named by its length.
    """
    chars_per_token = _calibrate(engine, " ".join(texts[:20]))
    for position, length in enumerate(lengths_of(contexts)):
        tally.sent += 1
        meter = subject.meter.question("0", "sweep", f"{phase.salt}-{position}")
        place: dict[str, Any] = {"arm": phase.arm, "block": phase.block, "phase": phase.name, "segment": phase.segment}
        meter.open({**place, "question_id": f"sweep-{length}-{position // len(contexts)}", "attempt": 1})
        try:
            await subject.llm.complete(meter, NODE, 1, prompt(texts, int(length * chars_per_token)), GENERATED_TOKENS)
            tally.ok += 1
            await meter.close("ok", "done", 0, {})
        except LlmError as error:
            tally.failed[error.reason] += 1
            await meter.close("failed", "error", 0, {"reason": error.reason})
        advance()


def prompt(texts: Sequence[str], chars: int) -> list[Message]:
    """Return the messages of a call whose documents have about `chars` characters."""
    documents = ""
    for text in cycle(texts):
        if len(documents) >= chars:
            break
        documents += f"{text}\n"
    return [{"role": "user", "content": f"Passages:\n{documents[:chars]}\n\n{INSTRUCTIONS[NODE]}"}]


def _calibrate(engine: RunningEngine, sample: str) -> float:
    """Return the characters a token of the server's own tokenizer on a sample of the documents."""
    with open_client(engine.endpoint, TOKENIZE_TIMEOUT_SECONDS) as client:
        body = {"model": engine.facts.model, "prompt": sample}
        return len(sample) / int(client.post("/tokenize", json=body).raise_for_status().json()["count"])

"""Calls of controlled prompt length: documents are added until a prompt has about the tokens asked for."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any

import httpx

from workload.agent.llm import LlmError
from workload.agent.prompts import INSTRUCTIONS
from workload.engine.endpoint import open_client
from workload.engine.key import unanswered
from workload.errors import DependencyDownError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from workload.engine.launcher import RunningEngine
    from workload.engine.message import Message
    from workload.harness.driver import Phase
    from workload.harness.loops import Tally
    from workload.harness.system_under_test import SystemUnderTest

NODE = "generate"
# Enough steps for a time per token, and a decode long enough to be seen by a scrape every 100 ms.
GENERATED_TOKENS = 32
TOKENIZE_TIMEOUT_SECONDS = 30.0
# Enough for a ratio within a percent, and short of every context limit.
SAMPLE_CHARS = 20_000


async def sweep(
    under_test: SystemUnderTest,
    engine: RunningEngine,
    phase: Phase,
    contexts: Sequence[int],
    texts: Sequence[str],
    tally: Tally,
    advance: Callable[[], None],
    done: Collection[str],
) -> None:
    """Make one call after the other, one for each length, each under a cache salt of its own, so nothing is cached.

    The agent's own prompts are short; what a long context costs is seen only when it is really sent. How long a prompt
    came out is told by the server's usage; the lengths asked for are only aimed at. Each call is one question in the
    journal, named by its place and its length; those named in `done` were made before an interruption.

    Raises:
        DependencyDownError: the engine stopped answering.
    """
    chars_per_token = calibrate(engine, prompt(texts, SAMPLE_CHARS)[0]["content"])
    for position, length in enumerate(contexts):
        if (name := question_id(position, length)) in done:
            continue
        meter = under_test.meter.question("0", "sweep", f"{phase.salt}-{position}")
        place: dict[str, Any] = {"arm": phase.arm, "block": phase.block, "phase": phase.name, "segment": phase.segment}
        meter.open({**place, "question_id": name, "attempt": phase.sent_before.get(name, 0) + 1})
        messages = prompt(texts, int(length * chars_per_token))
        reason = None
        tally.sent += 1
        try:
            await under_test.llm.compute(meter, NODE, 1, messages, GENERATED_TOKENS)
        except LlmError as error:
            reason = error.reason
            tally.failed[reason] += 1
            meter.close("failed", "error", 0, {"reason": reason})
        except BaseException:
            tally.cancelled += 1
            meter.close("cancelled", "error", 0, {})
            raise
        else:
            tally.ok += 1
            meter.close("ok", "done", 0, {})
        await under_test.meter.acknowledge()
        advance()
        await under_test.driver.gate.check(reason)


def question_id(position: int, length: int) -> str:
    """Return the name of a call in the journal."""
    return f"sweep-{position}-{length}"


def prompt(texts: Sequence[str], chars: int) -> list[Message]:
    """Return the messages of a call whose documents have `chars` characters."""
    documents = ""
    for text in cycle(texts):
        if len(documents) >= chars:
            break
        documents += f"{text}\n"
    return [{"role": "user", "content": f"Passages:\n{documents[:chars]}\n\n{INSTRUCTIONS[NODE]}"}]


def calibrate(engine: RunningEngine, sample: str) -> float:
    """Return the characters a token of `sample`, by the server's own tokenizer.

    Raises:
        UsageError: the server asks for a key.
        DependencyDownError: it does not answer, or not as vLLM does.
    """
    with open_client(engine.endpoint, TOKENIZE_TIMEOUT_SECONDS, key=engine.key) as client:
        body = {"model": engine.facts.model, "prompt": sample}
        try:
            return len(sample) / int(client.post("/tokenize", json=body).raise_for_status().json()["count"])
        except httpx.HTTPError as error:
            raise unanswered(error, engine.endpoint, "/tokenize") from error
        except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
            raise DependencyDownError(
                f"{engine.endpoint} does not tokenize as vLLM does ({type(error).__name__}).", "Check --vllm-endpoint."
            ) from error

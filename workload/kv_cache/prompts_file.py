"""Prompts of other programs: a text file of JSON objects, one call per line, in order of arrival.

    {"messages": [{"role": "user", "content": "..."}], "request": "q1", "node": "decide", "hop": 2}
    {"prompt": "a prompt that needs no chat template", "output": "what was generated"}
    {"prompt_token_ids": [1, 2, 3], "output_token_ids": [4, 5]}

One of `messages`, `prompt` and `prompt_token_ids` is needed. The output, as text or as ids, counts because it stays in
the cache. `request` groups calls (default: each line is its own request); `node` and `hop` say where a call comes from
(default: "call" and 1). Any other key is an error, because a misspelt key would be lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from workload.errors import UsageError
from workload.files.enclosed import text_of
from workload.kv_cache.source import CallSource, SentCall
from workload.theory.structure import AgentCall

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from workload.corpus.tokenizer import ChatTokenizer
    from workload.engine.message import Message

ARM = "prompts"
MAX_BYTES = 2**30
TokenId = Annotated[int, Field(strict=True, ge=0, lt=2**32)]


class ChatMessage(BaseModel):
    """One message of a chat."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["system", "user", "assistant"]
    content: str


class PromptLine(BaseModel):
    """One line of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    messages: tuple[ChatMessage, ...] | None = Field(default=None, min_length=1)
    prompt: str | None = None
    prompt_token_ids: tuple[TokenId, ...] | None = None
    output: str | None = None
    output_token_ids: tuple[TokenId, ...] | None = None
    request: Annotated[str, Field(min_length=1)] | None = None
    node: str = "call"
    hop: Annotated[int, Field(strict=True, ge=1)] = 1

    @model_validator(mode="after")
    def _is_one_call(self) -> PromptLine:
        for names, least in ((("messages", "prompt", "prompt_token_ids"), 1), (("output", "output_token_ids"), 0)):
            given = sum(getattr(self, name) is not None for name in names)
            if not least <= given <= 1:
                raise ValueError(f"{'exactly' if least else 'at most'} one of {', '.join(names)} is needed")
        return self

    def call(self, number: int, tokenizer: Callable[[], ChatTokenizer]) -> SentCall:
        """Return the call of line `number`; the tokenizer is loaded only for text."""
        messages = tuple(cast("Message", message.model_dump()) for message in self.messages or ())
        if self.prompt_token_ids is not None:
            prompt = list(self.prompt_token_ids)
        elif self.prompt is not None:
            prompt = tokenizer().completion_prompt_ids(self.prompt)
        else:
            prompt = tokenizer().prompt_ids(messages)
        output = list(self.output_token_ids or ())
        if self.output is not None:
            output, _ = tokenizer().reply(self.output)
        return SentCall(AgentCall(self.request or f"line {number}", self.node, self.hop, prompt, output), messages)


def read_prompts(path: Path, tokenizer: Callable[[], ChatTokenizer], block_size: int) -> CallSource:
    """Return the calls of a file in the format of this module; empty lines are skipped.

    Raises:
        UsageError: the file cannot be read or has no call, or a line is malformed; the message names line and field.
        MissingPartError: a line has text and there is no tokenizer.
    """
    calls = [
        _parse(path, number, line).call(number, tokenizer)
        for number, line in enumerate(_text(path).split("\n"), start=1)
        if line.strip()
    ]
    if not calls:
        raise UsageError(f"{path} has no call.", "Give a file with one JSON object per line.")
    return CallSource(
        kind="prompts", origin=f"prompts from the file {path.name}", arms={ARM: calls}, block_size=block_size
    )


def _text(path: Path) -> str:
    try:
        # the user's own file may be a link
        return text_of(path.resolve(), MAX_BYTES).removeprefix("\ufeff")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or error
        text = f"The prompts {str(path)!r} cannot be read: {reason}."
        raise UsageError(text, "Give a UTF-8 file, one call per line.") from error


def _parse(path: Path, number: int, line: str) -> PromptLine:
    try:
        return PromptLine.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        # an unknown key is text of the file
        field = "".join(letter for letter in ".".join(map(str, first["loc"])) if letter.isprintable()) or "the line"
        raise UsageError(f"{path}: line {number}, {field}: {first['msg'].lower()}.", "Correct the file.") from error

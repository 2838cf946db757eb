"""Prompts from elsewhere: what cannot be read is reported with its line, and nothing is lost in silence."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workload.errors import MissingPartError, UsageError
from workload.kv_cache import prompts_file
from workload.kv_cache.prompts_file import read_prompts

if TYPE_CHECKING:
    from pathlib import Path

    from workload.corpus.tokenizer import ChatTokenizer
    from workload.kv_cache.source import SentCall

IDS = st.lists(st.integers(0, 2**32 - 1), max_size=20)
WORDS = st.text(st.characters(codec="utf-8"), min_size=1)
KEYS: dict[str, st.SearchStrategy[Any]] = {"prompt_token_ids": IDS}
MORE: dict[str, st.SearchStrategy[Any]] = {
    "output_token_ids": IDS,
    "request": WORDS,
    "node": WORDS,
    "hop": st.integers(1, 9),
}
LINES = st.lists(st.fixed_dictionaries(KEYS, optional=MORE), min_size=1, max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["prompt", "hop", "x"]), inner),
    max_leaves=6,
)


def no_tokenizer() -> NoReturn:
    """Stand for a machine without a tokenizer."""
    raise MissingPartError("There is no tokenizer.")


def calls_of(path: Path, lines: list[Any]) -> list[SentCall]:
    """Return the calls of a file of ids."""
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return list(read_prompts(path, no_tokenizer, 32).arms["prompts"])


@given(lines=LINES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ids_come_back_as_they_were(tmp_path: Path, lines: list[dict[str, Any]]) -> None:
    """Ids need no tokenizer, and every field finds its place, in the order of the file."""
    found = calls_of(tmp_path / "prompts.jsonl", lines)
    assert [list(sent.call.prompt) for sent in found] == [line["prompt_token_ids"] for line in lines]
    for number, (sent, line) in enumerate(zip(found, lines, strict=True), start=1):
        assert list(sent.call.output) == line.get("output_token_ids", [])
        assert sent.call.question == line.get("request", f"line {number}")
        assert sent.call.cell == (line.get("node", "call"), line.get("hop", 1))


@given(value=JSON)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_anything_else_is_an_error_of_one_line(tmp_path: Path, value: Any) -> None:
    """Whatever JSON a user's log contains, the answer is a call or a sentence, never a traceback."""
    with pytest.raises((UsageError, MissingPartError)) as refused:
        calls_of(tmp_path / "prompts.jsonl", [value])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("line", "reported"),
    [
        ('{"prompt_token_ids": [1, -1]}', r"line 2, prompt_token_ids\.1"),
        ('{"prompt_token_ids": [4294967296]}', r"prompt_token_ids\.0"),
        ('{"prompt_token_ids": [true]}', r"prompt_token_ids\.0"),
        ('{"prompt_token_ids": [1.0]}', r"prompt_token_ids\.0"),
        ('{"prompt_token_ids": [1], "prompt": "x"}', "exactly one of messages, prompt, prompt_token_ids"),
        ('{"output": "x"}', "exactly one of"),
        ('{"prompt_token_ids": [1], "output": "x", "output_token_ids": [1]}', "at most one of output"),
        ('{"prompt_token_ids": [1], "outputs": "x"}', "line 2, outputs"),
        ('{"messages": []}', "line 2, messages"),
        ('{"messages": [{"role": "user", "content": ["x"]}]}', r"messages\.0\.content"),
        ('{"messages": [{"role": "wizard", "content": "x"}]}', r"messages\.0\.role"),
        ('{"messages": [{"role": "user", "content": "x", "name": "y"}]}', r"messages\.0\.name"),
        ('{"prompt_token_ids": [1], "hop": 0}', "line 2, hop"),
        ("[1, 2]", "line 2, the line"),
        ("{", "line 2"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, reported: str) -> None:
    """With its number and field, so that a log of a million lines can be mended."""
    path = tmp_path / "prompts.jsonl"
    path.write_text(f'{{"prompt_token_ids": [1]}}\n{line}\n')
    with pytest.raises(UsageError, match=reported):
        read_prompts(path, no_tokenizer, 16)


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe"])
def test_a_file_without_calls_is_refused(tmp_path: Path, content: bytes) -> None:
    """An empty analysis would look like a cache that nothing can use."""
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"has no call|cannot be read"):
        read_prompts(path, no_tokenizer, 16)


@pytest.mark.parametrize("name", ["pipe", "folder", "/dev/zero", "nul\0name"])
def test_what_has_no_end_is_refused_unread(tmp_path: Path, name: str) -> None:
    """A pipe waits for its writer, and a device fills the memory."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="cannot be read") as refused:
        read_prompts(tmp_path / name, no_tokenizer, 16)
    assert str(refused.value).isprintable()


def test_a_file_is_read_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line without an end is a memory without an end."""
    monkeypatch.setattr(prompts_file, "MAX_BYTES", 1000)
    with pytest.raises(UsageError, match="larger than"):
        calls_of(tmp_path / "p.jsonl", [{"prompt_token_ids": [1] * 1000}])


def test_what_windows_puts_around_lines_is_no_part_of_them(tmp_path: Path) -> None:
    """A byte order mark before the first, and two characters after each."""
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt_token_ids": [1]}\r\n{"prompt_token_ids": [2]}\r\n')
    assert len(read_prompts(path, no_tokenizer, 16).arms["prompts"]) == 2


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """The path is reported, and nothing else was done."""
    with pytest.raises(UsageError, match=r"missing\.jsonl' cannot be read: No such file"):
        read_prompts(tmp_path / "missing.jsonl", no_tokenizer, 16)


def test_words_go_through_the_template_or_not(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    """Chats have a template and completions have none; an output as text ends with the token that ends a reply."""
    path = tmp_path / "prompts.jsonl"
    lines = [{"messages": [{"role": "user", "content": "Who?"}], "output": "Ben"}, {"prompt": "Who?"}]
    path.write_text("\n".join(map(json.dumps, lines)))
    chat, completion = read_prompts(path, lambda: tokenizer, 16).arms["prompts"]
    assert chat.call.prompt == tokenizer.prompt_ids([{"role": "user", "content": "Who?"}])
    assert list(chat.call.output) == tokenizer.reply("Ben")[0]
    assert completion.call.prompt == tokenizer.encode("Who?")
    assert chat.messages
    assert not completion.messages


def test_words_without_a_tokenizer_are_a_missing_part(tmp_path: Path) -> None:
    """Only then is one needed."""
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "Who?"}')
    with pytest.raises(MissingPartError):
        read_prompts(path, no_tokenizer, 16)

"""A client cannot see the tap: what it did not ask for is not in its answers, and all else is there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stubs.answers import CHAT, TEXT, AnsweringVllm
from workload.tap.events import EventCutter

if TYPE_CHECKING:
    import httpx

    from workload.tap.serving import Tap

OTHER_EVENTS = [
    ": ping\n\n",
    "event: note\ndata: a\n\n",
    "data: not JSON\n\n",
    "data: [1, 2]\n\n",
    'data: {"choices": []}\r\n\r\n',
    'data: {"a": "\\ud800 \\u00e9"}\n\n',
]
texts = st.lists(st.text(st.characters(codec="utf-8"), max_size=4), min_size=1, max_size=4)
bodies = st.fixed_dictionaries(
    {"texts": texts, "stream": st.booleans(), "n": st.integers(1, 2), "extra": st.lists(st.sampled_from(OTHER_EVENTS))},
    optional={
        "return_token_ids": st.booleans(),
        "stream_options": st.fixed_dictionaries(
            {}, optional={"include_usage": st.booleans(), "continuous_usage_stats": st.booleans()}
        ),
    },
)


def events_of(data: bytes) -> list[bytes]:
    """Return the events of a whole stream."""
    cutter = EventCutter()
    events = cutter.take(data)
    assert cutter.rest() == b""
    return events


def meaning(event: bytes) -> Any:
    """Return the JSON of an event, else its bytes."""
    try:
        return json.loads(event.strip().removeprefix(b"data: "))
    except ValueError:
        return event


@settings(max_examples=60, deadline=None)
@given(body=bodies, path=st.sampled_from([CHAT, TEXT]), cuts=st.lists(st.integers(0, 80), max_size=8))
def test_an_answer_is_that_of_the_unmodified_request(
    vllm: AnsweringVllm, tap: Tap, client: httpx.Client, *, body: dict[str, Any], path: str, cuts: list[int]
) -> None:
    """Events that nothing was added to are the same bytes, edited ones the same JSON, and none is missing or new."""
    vllm.cuts = cuts
    if not body["stream"]:
        body.pop("stream_options", None)
    plain = client.post(vllm.url + path, json=body)
    tapped = client.post(tap.url + path, json=body)
    assert vllm.bodies[-1]["return_token_ids"] is True
    assert tapped.status_code == plain.status_code == 200
    assert tapped.headers["content-type"] == plain.headers["content-type"]
    if not body["stream"]:
        assert tapped.json() == plain.json()
        assert int(tapped.headers["content-length"]) == len(tapped.content)
        assert tapped.headers["x-request-id"] == plain.headers["x-request-id"]
        return
    assert vllm.bodies[-1]["stream_options"]["include_usage"] is True
    before, after = events_of(plain.content), events_of(tapped.content)
    assert [meaning(event) for event in after] == [meaning(event) for event in before]
    assert [event for event in after if not edited(event)] == [event for event in before if not edited(event)]
    asked_all = body.get("return_token_ids") and (body.get("stream_options") or {}).get("include_usage")
    if asked_all:
        assert after == before


def edited(event: bytes) -> bool:
    """Return whether an event of the stub is one to which the tap's additions belong."""
    value = meaning(event)
    return isinstance(value, dict) and "id" in value


def test_nothing_is_added_that_would_change_the_answer(vllm: AnsweringVllm, tap: Tap, client: httpx.Client) -> None:
    """With ids vLLM leaves out the echo of a prompt, and it refuses the options of a stream where there is none."""
    client.post(tap.url + TEXT, json={"texts": ["a"], "echo": True})
    assert "return_token_ids" not in vllm.bodies[-1]
    assert "stream_options" not in vllm.bodies[-1]

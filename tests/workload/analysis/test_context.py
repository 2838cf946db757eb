"""Growth of time with the context: each part against its own tokens, and the expectation next to it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.stubs.run import call
from workload.analysis.context import (
    decode_points,
    expected_share,
    growth_of,
    onset,
    physics_of,
    prefill_points,
)

SMOLLM2 = {
    "num_hidden_layers": 30,
    "hidden_size": 576,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
    "dtype": "bfloat16",
}
QWEN = {
    "num_hidden_layers": 28,
    "hidden_size": 3584,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18_944,
    "torch_dtype": "bfloat16",
}


def swept(share: float, noise: float = 0.01, seed: int = 0) -> tuple[Any, Any]:
    """Return prefill times of a sweep whose quadratic term is `share` of the linear one at 8,192 tokens."""
    tokens = np.repeat(np.linspace(512, 8192, 8), 3)
    relative = tokens / 8192
    seconds = 0.02 + 4 * relative * (1 + share * relative)
    return tokens, seconds * (1 + noise * np.random.default_rng(seed).standard_normal(len(tokens)))


def test_prefill_is_of_the_tokens_that_were_computed() -> None:
    """Against all prompt tokens a warm call of 1,000 looks ten times as fast as a cold one, and growth vanishes."""
    calls = [call(0, prompt_tokens=1000, cached_tokens=900, ttft_seconds=0.1), call(1, outcome="failed")]
    tokens, seconds = prefill_points(calls)
    assert tokens.tolist() == [100.0]
    assert seconds.tolist() == [0.1]


def test_decode_starts_at_the_first_token() -> None:
    """A timer over the whole call would charge the prefill to the decode, and find growth where there is none."""
    one = call(0, prompt_tokens=1000, completion_tokens=11, ttft_seconds=3.0, duration_seconds=3.5)
    short = call(1, prompt_tokens=1000, completion_tokens=2, ttft_seconds=3.0, duration_seconds=3.5)
    tokens, seconds = decode_points([one, short])
    assert tokens.tolist() == [1005.5]
    assert seconds.tolist() == pytest.approx([0.05])


@pytest.mark.parametrize(("config", "share", "kv_bytes"), [(SMOLLM2, 1.33, 23_040), (QWEN, 0.126, 57_344)])
def test_the_config_says_what_to_expect(config: dict[str, Any], share: float, kv_bytes: int) -> None:
    """Linear or not depends on the model: 133 % and 12.6 % at 8k are both right."""
    physics = physics_of(config)
    assert expected_share(physics, 8192) == pytest.approx(share, rel=0.01)
    assert physics["kv_bytes_per_token"] == kv_bytes


def test_an_unreadable_config_expects_nothing() -> None:
    """A wrong expectation is worse than none."""
    assert "unknown" in physics_of({})
    assert expected_share(physics_of({}), 8192) is None


@pytest.mark.parametrize("share", [0.126, 1.33])
def test_a_planted_curvature_is_found_with_its_power(share: float) -> None:
    """The share, its interval, what the config expects, and whether these calls could have shown it."""
    physics = physics_of(QWEN if share < 1 else SMOLLM2)
    found = growth_of(swept(share, noise=0.004), physics)
    assert found["is_superlinear"]
    assert found["quadratic_share_ci"][0] < share < found["quadratic_share_ci"][1]
    assert found["expected_quadratic_share"] == pytest.approx(share, rel=0.01)
    assert found["power"] > 0.8


def test_a_straight_line_is_not_called_superlinear() -> None:
    """A null with its power is a result; a lucky curve is not."""
    found = growth_of(swept(0.0), physics_of(QWEN))
    assert not found["is_superlinear"]
    assert not found["is_wall"]


def test_too_few_calls_are_reported_and_not_fitted() -> None:
    """A smoke run has three calls of an arm; it must end in words and not in a traceback."""
    found = growth_of((np.array([1.0, 2.0]), np.array([1.0, 2.0])))
    assert found["calls"] == 2
    assert "unknown" in found
    five = growth_of((np.array([1.0, 1, 1, 2, 2]), np.array([1.0, 1, 1, 2, 2])))
    assert five["quadratic_share"] is None
    assert five["slope_ratio"] is None


def test_json_holds_no_infinity() -> None:
    """Pure quadratic growth has no linear part, so the share has no bound; JSON has no word for it."""
    tokens = np.repeat(np.linspace(512, 8192, 8), 3)
    found = growth_of((tokens, (tokens / 8192) ** 2))
    assert json.dumps(found, allow_nan=False)
    assert found["is_superlinear"]


def test_an_onset_is_the_shortest_prompt_that_was_hit() -> None:
    """A wall is where it begins."""
    calls = [call(number, prompt_tokens=tokens) for number, tokens in enumerate((100, 900, 500))]
    assert onset(calls, [False, True, True]) == 500
    assert onset(calls, [False, False, False]) is None

"""The expectation printed with a fit must be the model's, not ours."""

from __future__ import annotations

from typing import Any

import pytest

from workload.errors import UsageError
from workload.theory.physics import kv_bytes_per_token, prefill_cost

QWEN_7B: dict[str, Any] = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "torch_dtype": "bfloat16",
    "vocab_size": 152064,
}
SMOLLM_135M: dict[str, Any] = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "dtype": "bfloat16",
    "vocab_size": 49152,
}


@pytest.mark.parametrize(
    ("config", "linear_gflops", "quadratic_flops", "share_at_8k"),
    [(QWEN_7B, 13.05, 200_704, 0.126), (SMOLLM_135M, 0.212, 34_560, 1.33)],
)
def test_prefill_cost_of_known_models(
    config: dict[str, Any], linear_gflops: float, quadratic_flops: int, share_at_8k: float
) -> None:
    """One model is nearly linear at 8k and the other mostly quadratic: a verdict without the model says nothing."""
    cost = prefill_cost(config)
    assert cost.linear_flops / 1e9 == pytest.approx(linear_gflops, rel=2e-3)
    assert cost.quadratic_flops == quadratic_flops
    assert cost.quadratic_share(8192) == pytest.approx(share_at_8k, rel=5e-3)


def test_the_weights_are_those_of_a_real_model() -> None:
    """The FLOPs rest on a count of weights, so the count is checked on a module that torch builds."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    config = transformers.LlamaConfig(**{name: SMOLLM_135M[name] for name in names}, vocab_size=8)
    with torch.device("meta"):
        layers = transformers.LlamaModel(config).layers
    matrices = sum(weight.numel() for weight in layers.parameters() if weight.dim() == 2)
    assert prefill_cost(SMOLLM_135M).linear_flops == 2 * matrices


@pytest.mark.parametrize(("config", "expected"), [(QWEN_7B, 57_344), (SMOLLM_135M, 23_040)])
def test_kv_bytes_of_known_models(config: dict[str, Any], expected: int) -> None:
    """The slope of KV memory against context is checked against these within 2 %."""
    assert kv_bytes_per_token(config) == expected


def test_a_head_size_of_its_own_is_used() -> None:
    """Newer models set `head_dim` apart from hidden / heads; deriving it would be wrong without a sign."""
    assert kv_bytes_per_token({**QWEN_7B, "head_dim": 256}) == 2 * 57_344


@pytest.mark.parametrize("missing", ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"])
def test_a_missing_size_is_named(missing: str) -> None:
    """Absent is not zero: a config of another family must not give a cost of zero."""
    with pytest.raises(UsageError, match=missing):
        prefill_cost({key: value for key, value in QWEN_7B.items() if key != missing})


def test_models_the_formula_does_not_fit_are_refused() -> None:
    """A mixture of experts computes a fraction of its weights a token."""
    with pytest.raises(UsageError, match="num_experts"):
        prefill_cost({**QWEN_7B, "num_experts": 64})
    with pytest.raises(UsageError, match="int4"):
        kv_bytes_per_token({**QWEN_7B, "torch_dtype": "int4"})

"""The prefill work and KV bytes that follow from a dense transformer's config, before any measurement.

Prefill of n tokens takes 2 floating-point operations per token and weight of the layers' matrices, plus attention:
scores and weighted values take 2 n^2 d each, d = heads x head size; the causal mask halves both, so 2 n^2 d per layer.
The output head is omitted: a prefill computes it for one token only. Source: the multiply-adds of the matrices of
Llama and Qwen2 (query, key, value, output; gate, up, down), as in Kaplan et al. 2020, arXiv:2001.08361, table 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workload.errors import UsageError
from workload.files.enclosed import json_of

if TYPE_CHECKING:
    from collections.abc import Mapping

BYTES_BY_DTYPE = {"float32": 4, "bfloat16": 2, "float16": 2}
# The formulas below do not hold for experts or latent attention, and a wrong expectation is worse than none.
UNSUPPORTED_KEYS = ("num_experts", "num_local_experts", "n_routed_experts", "kv_lora_rank")


@dataclass(frozen=True)
class PrefillCost:
    """FLOPs of a prefill of n tokens: `linear_flops` x n + `quadratic_flops` x n^2."""

    linear_flops: int
    quadratic_flops: int

    def quadratic_share(self, tokens: float) -> float:
        """Return the quadratic term over the linear one at `tokens`: 0.126 is 12.6 % on top of linear."""
        return self.quadratic_flops * tokens / self.linear_flops


def read_config(model_path: str | None) -> dict[str, Any]:
    """Return the model's `config.json`; empty if the model is not a folder on this host or the file is unreadable."""
    path = Path(model_path or "", "config.json").resolve()  # a hub's cache contains links to its files
    try:
        found = json_of(path) if model_path else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def prefill_cost(config: Mapping[str, Any]) -> PrefillCost:
    """Return the cost of prefill from a Hugging Face `config.json`.

    Raises:
        UsageError: a size is missing, or the model is not a dense transformer.
    """
    unsupported = [key for key in UNSUPPORTED_KEYS if config.get(key)]
    if unsupported:
        raise UsageError(f"The model's config has `{unsupported[0]}`.", "Use a dense model: only those have a formula.")
    layers, hidden = _size(config, "num_hidden_layers"), _size(config, "hidden_size")
    query_width = _size(config, "num_attention_heads") * _head_size(config)
    attention = 2 * hidden * (query_width + _kv_heads(config) * _head_size(config))
    mlp = 3 * hidden * _size(config, "intermediate_size")
    return PrefillCost(2 * layers * (attention + mlp), 2 * layers * query_width)


def kv_bytes_per_token(config: Mapping[str, Any]) -> int:
    """Return the bytes of keys and values per token: 2 x layers x KV heads x head size x bytes per value.

    `config` is a Hugging Face `config.json`; the KV cache has the type of the weights.

    Raises:
        UsageError: a size is missing, or the type of the weights is unknown.
    """
    dtype = config.get("dtype") or config.get("torch_dtype")
    if dtype not in BYTES_BY_DTYPE:
        raise UsageError(f"The model's config has the unknown type {dtype!r}.", f"Known: {list(BYTES_BY_DTYPE)}.")
    return 2 * _size(config, "num_hidden_layers") * _kv_heads(config) * _head_size(config) * BYTES_BY_DTYPE[dtype]


def _size(config: Mapping[str, Any], key: str) -> int:
    if not config.get(key):
        raise UsageError(f"The model's config has no `{key}`.", "Add it: no expectation can be computed without it.")
    return int(config[key])


def _kv_heads(config: Mapping[str, Any]) -> int:
    return int(config.get("num_key_value_heads") or _size(config, "num_attention_heads"))


def _head_size(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim") or _size(config, "hidden_size") // _size(config, "num_attention_heads"))

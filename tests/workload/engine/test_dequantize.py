"""The parts of the conversion that can be wrong in silence: names and the order of rotary rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workload.engine.dequantize import hugging_face_name, unpermute


@pytest.mark.parametrize(
    ("gguf", "hugging_face"),
    [
        ("token_embd.weight", "model.embed_tokens.weight"),
        ("output_norm.weight", "model.norm.weight"),
        ("blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight"),
        ("blk.29.ffn_down.weight", "model.layers.29.mlp.down_proj.weight"),
    ],
)
def test_names_are_those_of_the_model(gguf: str, hugging_face: str) -> None:
    """A tensor under a wrong name is left at random and the model still talks."""
    assert hugging_face_name(gguf) == hugging_face


@pytest.mark.parametrize("name", ["blk.0.ffn_gate_exps.weight", "rope_freqs.weight"])
def test_an_unknown_tensor_is_an_error(name: str) -> None:
    """Dropping a tensor that is not understood makes another model."""
    with pytest.raises(KeyError):
        hugging_face_name(name)


@given(st.integers(1, 9), st.integers(1, 8), st.integers(1, 4))
def test_unpermute_undoes_the_converter(heads: int, half: int, columns: int) -> None:
    """With rotary rows in the wrong order the model answers fluent nonsense, without any error."""
    rows = heads * half * 2
    original = np.arange(rows * columns).reshape(rows, columns)
    # The converter's own order, as llama.cpp wants it: the halves of each head interleaved.
    converted = np.concatenate(
        [np.stack([head[:half], head[half:]], axis=1).reshape(2 * half, columns) for head in np.split(original, heads)]
    )
    assert (unpermute(converted, heads) == original).all()

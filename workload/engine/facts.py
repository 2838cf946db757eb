"""The facts that a running vLLM reports about itself. A missing fact is None, never 0 or a default."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from workload.engine.key import REFUSALS, unanswered
from workload.errors import DependencyDownError, UsageError
from workload.theory.physics import kv_bytes_per_token, read_config

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CACHE_CONFIG = "vllm:cache_config_info"
MOST_LISTED = 12
POOL_LABELS = ("kv_cache_memory_bytes", "cpu_kvcache_space_bytes")
"""The labels with the pool's size: of new releases, and of older CPU releases."""

RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}")
"""The form of a release: `0.11.0`, `0.16.0rc1.dev3+g1a2b3c4.cpu`, `dev`."""

MAX_NAME_CHARS, MAX_PATH_CHARS, MAX_DIGITS, MAX_LENGTH = 256, 4096, 18, 2**40


@dataclass(frozen=True, kw_only=True)
class EngineFacts:
    """Facts that a server reports, from `/version`, `/v1/models` and `cache_config_info` on `/metrics`.

    Attributes:
        model: the name that requests use: the requested one, else the first served.
        model_path: the folder or repository of the model, or of an adapter's base model.
        num_gpu_blocks: blocks in the KV pools of all data-parallel ranks, on CPU engines too; one in each is the null
            block.
        kv_pool_bytes: the reported size of the KV pool. If only its blocks are reported, as by 0.22.1 on a GPU, their
            tokens times the bytes per token by the model's config, if that is visible.
        kv_block_bytes: `kv_pool_bytes` per block of one data-parallel rank in whole bytes, too large by less than one
            block in the whole pool.
        kv_pool_is_told: whether the pool's size was reported, not computed; None if it is unknown.
        adapter_of: the base model's name where `model` is an adapter; vLLM's metrics carry the base's.
    """

    version: str | None
    model: str
    model_path: str | None
    max_model_len: int | None
    block_size: int | None
    num_gpu_blocks: int | None
    prefix_caching: bool | None
    kv_pool_bytes: int | None
    kv_block_bytes: float | None
    kv_pool_is_told: bool | None = None
    adapter_of: str | None = None

    @property
    def adapter(self) -> str:
        """The adapter's name, which separates its blocks from its base's in the prefix cache; else empty."""
        return self.model if self.adapter_of else ""

    def as_dict(self) -> dict[str, Any]:
        """Return the facts for a manifest."""
        return asdict(self)


def read_facts(client: httpx.Client, served_model: str | None = None) -> EngineFacts:
    """Ask the server behind `client` (its `base_url` is the endpoint).

    The client sends the key, if there is one; `served_model` is the name of a model or adapter, None for the first.

    Raises:
        UsageError: it does not serve this model, or requires a key.
        DependencyDownError: it does not answer, or not as a vLLM that serves a model.
    """
    server = str(client.base_url).rstrip("/")
    try:
        version = client.get("/version")
        models = client.get("/v1/models").raise_for_status().json()["data"]
        labels = cache_config(client.get("/metrics").raise_for_status().text)
        model = models[0] if served_model is None else _named(models, served_model, server)
        release = version.json().get("version") if version.is_success else None
        return facts_from(release, model, labels, models)
    except httpx.HTTPStatusError as error:
        if (status := error.response.status_code) in REFUSALS:
            raise unanswered(error, server, error.request.url.path) from error
        raise DependencyDownError(
            f"{server} does not answer as vLLM does (HTTP {status} at {error.request.url.path}).",
            "Name vLLM's own address, with the path that a gateway puts before /metrics and /v1.",
        ) from error
    except httpx.HTTPError as error:
        raise unanswered(error, server, "facts about the engine") from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise DependencyDownError(
            f"{server} answers, but not as vLLM does.", "Point --vllm-endpoint at a vLLM server."
        ) from error


def _named(models: Sequence[Mapping[str, Any]], name: str, server: str) -> Mapping[str, Any]:
    names = [_name(model["id"]) for model in models]
    if name not in names:
        listed = ", ".join(names[:MOST_LISTED]) + (
            f" and {len(names) - MOST_LISTED} more" if names[MOST_LISTED:] else ""
        )
        raise UsageError(f"{server} serves no model {name!r}.", f"It serves: {listed}.")
    return models[names.index(name)]


def facts_from(
    version: Any,
    model: Mapping[str, Any],
    labels: Mapping[str, str],
    models: Sequence[Mapping[str, Any]] = (),
) -> EngineFacts:
    """Return the facts in an entry of `/v1/models`, its parent among all `models`, and `cache_config_info`.

    An adapter's entry has neither folder nor length, so they are its parent's. Facts are printed, drawn and used as
    labels: a malformed version, or a size of another type, is None.

    Raises:
        ValueError: the model's name is not a line of text.
    """
    parent = model.get("parent")
    base = next((each for each in models if parent is not None and each["id"] == parent), model)
    length, root = base.get("max_model_len"), base.get("root")
    root = root if isinstance(root, str) and len(root) <= MAX_PATH_CHARS and root.isprintable() else None
    blocks = _count(labels.get("num_gpu_blocks"))
    block_size = _count(labels.get("block_size"))
    pool = next((size for label in POOL_LABELS if (size := _count(labels.get(label)))), None)
    is_told = True if pool else None
    if pool is None and blocks and block_size and labels.get("cache_dtype") == "auto":
        pool = _pool_by_config(root, blocks * block_size)
        is_told = False if pool else None
    return EngineFacts(
        version=version if isinstance(version, str) and RELEASE.fullmatch(version) else None,
        model=_name(model["id"]),
        model_path=root,
        max_model_len=length if type(length) is int and 0 < length <= MAX_LENGTH else None,
        block_size=block_size,
        num_gpu_blocks=blocks,
        prefix_caching={"True": True, "False": False}.get(labels.get("enable_prefix_caching", "")),
        kv_pool_bytes=pool,
        kv_block_bytes=float(pool // of_one)
        if pool and (of_one := _blocks_of_one(labels, blocks, block_size))
        else None,
        kv_pool_is_told=is_told,
        adapter_of=None if parent is None else _name(parent),
    )


def _blocks_of_one(labels: Mapping[str, str], blocks: int | None, block_size: int | None) -> int | None:
    """Return the blocks of one data-parallel rank: each rank reports its own pool, but the blocks of all ranks."""
    tokens = _count(labels.get("kv_cache_size_tokens"))
    own = tokens // block_size if tokens and block_size else 0
    return own if blocks and own and blocks % own == 0 else blocks


def _name(found: Any) -> str:
    if not (isinstance(found, str) and 0 < len(found) <= MAX_NAME_CHARS and found.isprintable()):
        raise ValueError("a model's name must be a line of text")
    return found


def _pool_by_config(folder: str | None, tokens: int) -> int | None:
    try:
        return tokens * kv_bytes_per_token(read_config(folder))
    except UsageError:
        return None  # the folder is not visible, or the model's cache has no formula


def cache_config(metrics: str) -> Mapping[str, str]:
    """Return the labels of `cache_config_info` in an exposition; empty if it has none.

    Raises:
        ValueError: this is not an exposition.
    """
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.name == CACHE_CONFIG:
                return sample.labels
    return {}


def _count(label: str | None) -> int | None:
    """Return the count in a label; None for 0, for other text and for a number too large for any engine."""
    is_number = label and len(label) <= MAX_DIGITS and label.isascii() and label.isdigit()
    return int(label) or None if label and is_number else None

"""What a running vLLM tells about itself. A fact it does not tell is None, never 0 and never a default."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from workload.analysis.physics import kv_bytes_per_token, read_config
from workload.errors import DependencyDownError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

CACHE_CONFIG = "vllm:cache_config_info"
POOL_LABELS = ("kv_cache_memory_bytes", "cpu_kvcache_space_bytes")
"""Where the pool's size is told: every new release once it is known, older CPU releases by their own label."""


@dataclass(frozen=True)
class EngineFacts:
    """A server's own words, from `/version`, `/v1/models` and `cache_config_info` on `/metrics`.

    Attributes:
        version: vLLM's version, such as "0.32.0".
        model: the name requests use (the first served).
        model_path: the folder or repository that the model was loaded from.
        max_model_len: longest context, in tokens.
        block_size: tokens a KV block.
        num_gpu_blocks: blocks in the KV pool, on CPU engines too; one of them is the null block.
        prefix_caching: whether prefix caching is on.
        kv_pool_bytes: size of the KV pool, as told; where only its blocks are told, as by 0.22.1 on a GPU, their tokens
            times the bytes of one by the model's config, if that is seen from here.
        kv_block_bytes: `kv_pool_bytes / num_gpu_blocks`, too large by less than one block in the whole pool.
        kv_pool_is_told: whether the pool's size was told and not computed; None where it is not known.
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

    def as_dict(self) -> dict[str, Any]:
        """Return the facts for a manifest."""
        return asdict(self)


def read_facts(client: httpx.Client) -> EngineFacts:
    """Ask the server behind `client` (its `base_url` is the endpoint).

    Raises:
        DependencyDownError: it does not answer, or is no vLLM serving a model.
    """
    try:
        version = client.get("/version")
        models = client.get("/v1/models").raise_for_status().json()
        metrics = client.get("/metrics").raise_for_status().text
        labels = cache_config(metrics)
        model = models["data"][0]
        told = version.json().get("version") if version.is_success else None
        return facts_from(told, model, labels)
    except httpx.HTTPError as error:
        what = (
            f"HTTP {error.response.status_code}" if isinstance(error, httpx.HTTPStatusError) else type(error).__name__
        )
        raise DependencyDownError(
            f"{client.base_url} does not answer as vLLM does ({what}).", "Check the endpoint and the engine's log."
        ) from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise DependencyDownError(
            f"{client.base_url} answers, but not as vLLM does.", "Point --vllm-endpoint at a vLLM server."
        ) from error


def facts_from(version: str | None, model: Mapping[str, Any], labels: Mapping[str, str]) -> EngineFacts:
    """Return the facts told by an entry of `/v1/models` and by the labels of `cache_config_info`."""
    blocks = _count(labels.get("num_gpu_blocks"))
    block_size = _count(labels.get("block_size"))
    pool = next((size for label in POOL_LABELS if (size := _count(labels.get(label)))), None)
    is_told = True if pool else None
    if pool is None and blocks and block_size and labels.get("cache_dtype") == "auto":
        pool = _pool_by_config(model.get("root"), blocks * block_size)
        is_told = False if pool else None
    return EngineFacts(
        version=version,
        model=model["id"],
        model_path=model.get("root"),
        max_model_len=model.get("max_model_len"),
        block_size=block_size,
        num_gpu_blocks=blocks,
        prefix_caching={"True": True, "False": False}.get(labels.get("enable_prefix_caching", "")),
        kv_pool_bytes=pool,
        kv_block_bytes=pool / blocks if pool and blocks else None,
        kv_pool_is_told=is_told,
    )


def _pool_by_config(folder: str | None, tokens: int) -> int | None:
    try:
        return tokens * kv_bytes_per_token(read_config(folder))
    except UsageError:
        return None  # no folder that is seen from here, or a model whose cache has no formula


def cache_config(metrics: str) -> Mapping[str, str]:
    """Return the labels of `cache_config_info` in an exposition; empty where there is none.

    Raises:
        ValueError: this is no exposition.
    """
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.name == CACHE_CONFIG:
                return sample.labels
    return {}


def _count(label: str | None) -> int | None:
    return int(label) if label and label.isascii() and label.isdigit() and int(label) else None

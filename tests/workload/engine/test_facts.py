"""Reading a server's own words, over the expositions recorded from five of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from workload.engine.endpoint import open_client
from workload.engine.facts import cache_config, facts_from, read_facts
from workload.errors import DependencyDownError

FIXTURES = Path(__file__).parents[2] / "fixtures" / "vllm"
MODEL = {"id": "smollm2-135m", "root": "/m", "max_model_len": 8192}
GIB = 1024**3


@pytest.mark.parametrize(
    ("name", "block_size", "blocks", "caching", "pool"),
    [
        ("vllm_0.11.0_cpu", 128, 364, True, GIB),
        ("vllm_0.16.0_cpu", 128, 364, True, GIB),
        ("vllm_0.22.1_h200_prefix_off", 16, 130016, False, None),
        ("vllm_0.22.1_h200_prefix_on", 16, 129948, True, None),
        ("vllm_0.32.0_cpu", 32, 1456, True, GIB),
    ],
)
def test_recorded_servers_are_read(name: str, block_size: int, blocks: int, caching: bool, pool: int | None) -> None:
    """Labels move between releases; the GPU server of 0.22.1 does not report its pool, which is not a pool of zero."""
    facts = facts_from("0", MODEL, cache_config((FIXTURES / f"{name}.prom").read_text()))
    assert (facts.block_size, facts.num_gpu_blocks, facts.prefix_caching) == (block_size, blocks, caching)
    assert facts.kv_pool_bytes == pool
    assert (facts.kv_block_bytes is None) is (pool is None)


def test_a_block_is_as_large_as_its_tokens() -> None:
    """SmolLM2-135M keeps 30 layers x 3 heads x 64 values x (key, value) x 2 bytes a token."""
    facts = facts_from("0", MODEL, cache_config((FIXTURES / "vllm_0.32.0_cpu.prom").read_text()))
    assert facts.kv_block_bytes == pytest.approx(32 * 30 * 3 * 64 * 2 * 2, rel=1e-3)
    assert (facts.kv_block_bytes or 0.5) % 1 == 0  # a report said 737460.04 bytes


def test_a_block_of_two_ranks_is_as_large_as_one_of_one() -> None:
    """With --data-parallel-size 2 both ranks report the blocks of both, and the bytes of their own pool."""
    labels = cache_config((Path(__file__).parents[2] / "fixtures/fleet/dp2_after.prom").read_text())
    facts = facts_from("0.32.0", {"id": "m"}, labels)
    assert (facts.num_gpu_blocks, facts.kv_block_bytes) == (2912, 737_460)


def test_a_pool_that_is_not_reported_is_worked_out_from_the_config(tmp_path: Path) -> None:
    """On a GPU 0.22.1 reports blocks and no bytes; without them the figure of GPU memory has no KV pool."""
    sizes = {"num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "hidden_size": 3584}
    (tmp_path / "config.json").write_text(json.dumps({**sizes, "torch_dtype": "bfloat16"}))
    labels = cache_config((FIXTURES / "vllm_0.22.1_h200_prefix_on.prom").read_text())
    facts = facts_from("0.22.1", {"id": "m", "root": str(tmp_path)}, labels)
    assert facts.kv_block_bytes == 16 * 57_344  # 2 x 28 layers x 4 heads x 128 x 2 bytes
    assert facts.kv_pool_is_told is False
    assert facts_from("0.22.1", {"id": "m", "root": "Qwen/Qwen2.5-7B"}, labels).kv_pool_is_told is None
    packed = {**labels, "cache_dtype": "fp8"}
    assert facts_from("0.22.1", {"id": "m", "root": str(tmp_path)}, packed).kv_pool_bytes is None


@pytest.mark.parametrize("labels", [{}, {"block_size": "None", "enable_prefix_caching": "None", "num_gpu_blocks": "0"}])
def test_what_is_not_reported_is_none(labels: dict[str, str]) -> None:
    """A zero would be drawn as a measurement and divided by."""
    facts = facts_from(None, {"id": "m"}, labels)
    assert set(facts.as_dict().values()) == {None, "m"}


def answers(pages: dict[str, Any]) -> httpx.MockTransport:
    """Return a transport that serves pages: text, a JSON value, or 404."""

    def handle(request: httpx.Request) -> httpx.Response:
        page = pages.get(request.url.path)
        if page is None:
            return httpx.Response(404)
        return httpx.Response(200, text=page) if isinstance(page, str) else httpx.Response(200, json=page)

    return httpx.MockTransport(handle)


GOOD = {
    "/version": {"version": "0.32.0"},
    "/v1/models": {"data": [MODEL]},
    "/metrics": 'vllm:cache_config_info{block_size="32"} 1.0\n',
}


def test_a_server_is_asked_three_pages() -> None:
    """The three together say which server, which model and which cache a measurement belongs to."""
    with open_client("http://x", transport=answers(GOOD)) as client:
        facts = read_facts(client)
    assert (facts.version, facts.model, facts.max_model_len, facts.block_size) == ("0.32.0", "smollm2-135m", 8192, 32)


def test_a_server_without_version_page_has_no_version() -> None:
    """Old servers lack the page: that is an absent fact, and the arm is refused later with its reason."""
    with open_client("http://x", transport=answers({**GOOD, "/version": None})) as client:
        assert read_facts(client).version is None


@pytest.mark.parametrize(
    "pages",
    [
        {},
        {**GOOD, "/v1/models": {"data": []}},
        {**GOOD, "/v1/models": ["x"]},
        {**GOOD, "/v1/models": "<html>"},
        {**GOOD, "/version": ["0.32.0"]},
        {**GOOD, "/metrics": "<html>a web site</html>"},
    ],
)
def test_another_server_is_not_taken_for_vllm(pages: dict[str, Any]) -> None:
    """A wrong port must end in one line with the endpoint, not in a KeyError."""
    with (
        open_client("http://x", transport=answers(pages)) as client,
        pytest.raises(DependencyDownError, match=r"http://x.* not.* as vLLM does"),
    ):
        read_facts(client)

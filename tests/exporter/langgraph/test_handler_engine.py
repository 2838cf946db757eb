"""The handler's tokens are those of the real CPU engine, to the token."""

from __future__ import annotations

import re
from collections import Counter
from itertools import cycle
from types import SimpleNamespace
from typing import TYPE_CHECKING

import httpx
import pytest
from rich.console import Console

from tests.exporter.langgraph.conformance import Case
from tests.exporter.langgraph.shapes import ALL
from workload.engine.install import find_installation
from workload.engine.launcher import ProcessLauncher
from workload.engine.profile import PROFILES
from workload.errors import MissingPartError
from workload.paths import cache_dir
from workload.services.process import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKENS = {
    "prompt": "vllm:prompt_tokens_total",
    "completion": "vllm:generation_tokens_total",
    "cached": "vllm:prefix_cache_hits_total",
    "calls": "vllm:request_success_total",
}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SimpleNamespace]:
    """Start the engine with prefix caching."""
    try:
        installation = find_installation(cache_dir())
    except MissingPartError as error:
        pytest.skip(str(error))
    launcher = ProcessLauncher(installation, tmp_path / "logs", Console(stderr=True), free_port())
    with launcher.start(PROFILES["prefix-on"], shares=False) as running:
        yield SimpleNamespace(url=running.endpoint, served=installation.served_model_name)


def counted(url: str) -> Counter[str]:
    """Return the engine's counters."""
    text = httpx.get(f"{url}/metrics").text
    return Counter(
        {
            kind: int(sum(float(value) for value in re.findall(rf"^{name}{{.*}} (\S+)$", text, re.MULTILINE)))
            for kind, name in TOKENS.items()
        }
    )


@pytest.mark.engine
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::langgraph.warnings.LangGraphDeprecatedSinceV10")
def test_client_tokens_are_the_engines(engine: SimpleNamespace) -> None:
    """A stub agrees with us by our own doing; the engine's counters show that no token is lost or doubled.

    Each shape is run in one of three ways: the stub's suite has every shape in every way.
    """
    before, reported = counted(engine.url), Counter[str]()
    for shape, way in zip(ALL, cycle(("invoke", "threads", "ainvoke")), strict=False):
        case = Case(shape, way, engine, engine.served)
        case.measure()
        for (kind, *_), count in case.reported().items():
            reported[kind] += count
    engines = counted(engine.url) - before
    assert {kind: reported[kind] for kind in TOKENS} == dict(engines)
    assert engines["calls"] > 130

"""What `init` says of .env and of the checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from workload.compose.surroundings import documented, misspelt, require_readable
from workload.errors import StorageError

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("name", "meant"), [("LOADRATE", "LOAD_RATE"), ("vllm_profile", "VLLM_PROFILE"), ("GRAFANA_PROT", "GRAFANA_PORT")]
)
def test_a_variable_without_effect_is_named_with_the_one_that_has_it(name: str, meant: str) -> None:
    """Seen: LOADRATE=1 was silently ignored."""
    (sentence,) = misspelt([name, "LOAD_RATE"], documented(ROOT / ".env.example"))
    assert name in sentence
    assert meant in sentence


def test_other_programs_variables_are_theirs() -> None:
    """The container has those of its image, and .env may have those of other tools."""
    others = ["PATH", "HOME", "HOP2RAG_CACHE", "HF_HUB_OFFLINE", "AWS_REGION", "HTTP_PROXY", "VLLM_PROFILE"]
    assert list(misspelt(others, documented(ROOT / ".env.example"))) == []


@pytest.mark.parametrize(
    "closed", ["prometheus", "prometheus/compose", "prometheus/compose/prometheus.yml", ".env.example"]
)
def test_a_checkout_that_only_its_owner_can_read_is_refused(tmp_path: Path, closed: str) -> None:
    """Seen: under umask 077 Prometheus and Grafana restarted for ever, each with a line deep in its log."""
    folder = tmp_path / "prometheus" / "compose"
    folder.mkdir(parents=True)
    for path in (folder / "prometheus.yml", tmp_path / ".env.example"):
        path.write_text("")
        path.chmod(0o644)
    for path in (folder, folder.parent):
        path.chmod(0o755)
    require_readable(tmp_path)
    (tmp_path / closed).chmod(0o700)
    with pytest.raises(StorageError, match=rf"{closed}: .*umask.*chmod -R a\+rX prometheus grafana"):
        require_readable(tmp_path)

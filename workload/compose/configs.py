"""The configuration of Prometheus and Alertmanager for containers, written from the one for a host."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from workload.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER = Path(__file__).parents[2] / "prometheus"
NOTE = "# Written by `hop2rag compose configs` from ../{name}; change that one.\n"

# What differs between a host and the network of docker-compose.yml; all else, comments included, is the same.
# The services' own targets lie in a volume of theirs, /targets; a folder of the checkout holds the user's.
CHANGES: Mapping[str, Mapping[str, str]] = {
    "prometheus.yml": {
        "[rules/*.yml, alerts/*.yml]": "[../rules/*.yml, ../alerts/*.yml]",
        "127.0.0.1:9093": "alertmanager:9093",
        "127.0.0.1:9090": "prometheus:9090",
        **{
            f"[targets/{job}.json, targets/{job}-*.json]": f"[/targets/{job}.json, ../targets/{job}-*.json]"
            for job in ("vllm", "exporter", "workload")
        },
    },
    "alertmanager.yml": {
        "http://127.0.0.1:9096/": "http://workload:9096/",
        "credentials_file: webhook-token": "credentials_file: /credentials/webhook/token",
    },
}


def contents(folder: Path = FOLDER) -> dict[str, str]:
    """Return what `prometheus/compose` must hold, by file name.

    Raises:
        UsageError: a source no longer has what is to be changed, so that a container would look on its own loopback.
    """
    return {name: _changed(name, (folder / name).read_text(), changes) for name, changes in CHANGES.items()}


def render(folder: Path = FOLDER) -> list[Path]:
    """Write the files into `folder/compose` and return them."""
    target = folder / "compose"
    target.mkdir(exist_ok=True)
    files = contents(folder)
    for name, text in files.items():
        (target / name).write_text(text)
    return [target / name for name in files]


def _changed(name: str, text: str, changes: Mapping[str, str]) -> str:
    for old, new in changes.items():
        if old not in text:
            raise UsageError(f"{name} does not hold {old!r} any more.", "Change it in workload/compose/configs.py too.")
        text = text.replace(old, new)
    return NOTE.format(name=name) + text

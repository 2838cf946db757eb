"""The configuration of Prometheus and Alertmanager for containers, written from the one for a host, and its targets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from workload.errors import UsageError
from workload.services import targets
from workload.services.locks import FileLock
from workload.services.targets import ArmLabels, TargetFiles

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER = Path(__file__).parents[2] / "prometheus"
EXPORTER = "exporter:9400"
NOTE = "# Written by `hop2rag compose configs` from ../{name}; change that one.\n"

# The load and a soak have a receiver each. What concerns no soak is not sent there: while none runs, its name resolves
# to nothing.
HEARTBEAT_ROUTE = "      repeat_interval: 30s\n"
SOAK_ROUTE = """\
    # A soak has a receiver of its own for its alerts and those of no run; the load gets every alert.
    - receiver: soak
      matchers: ['experiment =~ "soak|"']
      continue: true
    - receiver: runner
      continue: true
"""
SOAK = """\
  - name: soak
    webhook_configs:
      - url: http://soak:9096/alerts
        send_resolved: true
        http_config: *bearer
"""
HEARTBEAT = """\
  - name: runner-heartbeat
    webhook_configs:
      - url: http://127.0.0.1:9096/alerts
        send_resolved: false
        http_config: *bearer
"""
NO_HEARTBEAT = """\
  # A soak asks for the heartbeat, and the load needs none.
  - name: runner-heartbeat
"""

# The differences between a host and the network of docker-compose.yml; all else, with comments, is the same.
# The services' own targets are in a volume, /targets; the user's are in a folder of the checkout.
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
        HEARTBEAT_ROUTE: HEARTBEAT_ROUTE + SOAK_ROUTE,
        HEARTBEAT: SOAK + NO_HEARTBEAT,
        "http://127.0.0.1:9096/": "http://workload:9096/",
        "credentials_file: webhook-token": "credentials_file: /credentials/webhook/token",
    },
}

LIVE = ArmLabels(targets.LIVE, "load", "load")
"""The labels of everything that is not an experiment."""


def contents(folder: Path = FOLDER) -> dict[str, str]:
    """Return the files of `prometheus/compose`, by name.

    Raises:
        UsageError: a source no longer has a text to replace, so a container would connect to its own loopback.
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
            raise UsageError(f"{name} no longer contains {old!r}.", "Change it in workload/compose/configs.py too.")
        text = text.replace(old, new)
    return NOTE.format(name=name) + text


def first_targets(folder: Path) -> None:
    """Have the exporter scraped from the start, and nothing that an earlier start left; targets in use stay.

    The load has the engine scraped once it answers: one that has not come up yet is not down.

    Raises:
        StorageError: the folder cannot be written.
    """
    lock = FileLock(folder, "the targets")
    if not lock.owner() and not lock.load_lock().owner():
        TargetFiles(folder).write(LIVE, exporter=[EXPORTER])

"""The targets of Prometheus, in `file_sd` files: each arm rewrites them, so every series carries its arm."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import unquote, urlsplit

from workload.errors import UsageError
from workload.files import atomic_file
from workload.paths import NAME_PATTERN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

JOBS = {"vllm": "vllm-fast", "exporter": "exporter-timeline", "workload": "workload-timeline"}
"""Each has one file, which `prometheus/prometheus.yml` also reads for a second job of the same targets."""

FOR_PROMETHEUS = 0o644
"""The mode of a target file, which contains addresses and names: a containerised Prometheus is another user."""

TIMELINES = ("exporter", "workload")
"""The jobs whose second job scrapes their timeline."""

ADDRESS_PATTERN = re.compile(r"^(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+):\d{1,5}\Z")

PhaseLabel = Literal["warmup", "measured"]
WARM_UP: Final = "warmup"
MEASURED: Final = "measured"

DEFAULT_PORTS = {"http": 80, "https": 443}
METRICS_PATH = "/metrics"
LIVE = "live"
"""The run label of everything outside runs."""


@dataclass(frozen=True)
class ArmLabels:
    """The labels of a series: its run, experiment, arm, and whether the arm warms up or is measured.

    Raises:
        UsageError: a name is not 1 to 64 letters, digits, dots, dashes or underscores.
    """

    run: str
    experiment: str
    arm: str
    phase: PhaseLabel = MEASURED

    def __post_init__(self) -> None:
        for label, value in self.as_dict().items():
            if not NAME_PATTERN.fullmatch(value):
                raise UsageError(
                    f"The {label} name {value!r} cannot be a label value.",
                    "Use 1 to 64 letters, digits, dots, dashes or underscores.",
                )

    def as_dict(self) -> dict[str, str]:
        """Return the labels by name, for selectors."""
        return asdict(self)


def instance_of(endpoint: str) -> str:
    """Return the label `instance` of an engine's series: `host:port`, with the path if the endpoint has one."""
    (address,), own = _scraped(endpoint)
    return own.get("instance", address)


def _scraped(endpoint: str) -> tuple[Sequence[str], Mapping[str, str]]:
    """Return the address of an engine's metrics, and labels for a scheme and path other than the defaults.

    Raises:
        UsageError: the endpoint is not a checked URL.
    """
    try:
        parts = urlsplit(endpoint)
        name = parts.hostname or ""
        host = f"[{name}]" if ":" in name else name
        address = f"{host}:{parts.port or DEFAULT_PORTS.get(parts.scheme)}"
    except ValueError:
        parts, address = urlsplit(""), ""
    if parts.scheme not in DEFAULT_PORTS or not ADDRESS_PATTERN.fullmatch(address):
        raise UsageError(f"The vllm target {endpoint!r} is not an endpoint.", "Write it as http://host:port.")
    own = {"__scheme__": parts.scheme} if parts.scheme != "http" else {}
    if parts.path:
        # Prometheus escapes the path itself
        own |= {"__metrics_path__": unquote(parts.path) + METRICS_PATH, "instance": address + parts.path}
    return [address], own


def target_groups(
    labels: ArmLabels, *, vllm: Sequence[str] = (), exporter: Sequence[str] = (), workload: Sequence[str] = ()
) -> dict[str, list[Mapping[str, object]]]:
    """Return the labelled targets of each job, as `file_sd_configs` and `static_configs` list them.

    `vllm` are checked endpoints, see `workload.engine.endpoint`; the others are addresses, `host:port`.

    Raises:
        UsageError: an address is not `host:port`.
    """
    groups = {"vllm": [_group(*_scraped(endpoint), labels) for endpoint in vllm]}
    for job, addresses in (("exporter", exporter), ("workload", workload)):
        for address in addresses:
            if not ADDRESS_PATTERN.fullmatch(address):
                raise UsageError(f"The {job} target {address!r} is not an address.", "Write it as host:port.")
        groups[job] = [_group(addresses, {}, labels)] if addresses else []
    return groups


def _group(addresses: Sequence[str], own: Mapping[str, str], labels: ArmLabels) -> Mapping[str, object]:
    return {"targets": list(addresses), "labels": {**labels.as_dict(), **own}}


class TargetFiles:
    """The `file_sd` files in one folder. Prometheus notices a rewrite at once and acts on it within about 5 seconds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mine: dict[str, str] = {}

    def write(
        self,
        labels: ArmLabels,
        *,
        vllm: Sequence[str] = (),
        exporter: Sequence[str] = (),
        workload: Sequence[str] = (),
    ) -> None:
        """Replace all targets, given as `target_groups` takes them, and label them with the arm.

        Raises:
            UsageError: an address is not `host:port`.
            StorageError: a file cannot be written.
        """
        for job, groups in target_groups(labels, vllm=vllm, exporter=exporter, workload=workload).items():
            self._replace(job, groups)

    def read(self) -> dict[str, str]:
        """Return the existing files by name, for `restore`."""
        return {path.name: path.read_text() for job in JOBS if (path := self.folder / f"{job}.json").exists()}

    def read_standing(self) -> dict[str, str]:
        """Return the existing files by name, without the targets left by killed runs."""
        files = {name: json.loads(text) for name, text in self.read().items()}
        return {
            name: json.dumps([group for group in groups if group.get("labels", {}).get("run", LIVE) == LIVE])
            for name, groups in files.items()
        }

    def restore(self, files: Mapping[str, str]) -> None:
        """Write back the files that `read` returned.

        Raises:
            StorageError: a file cannot be written.
        """
        for job in JOBS:
            self._replace(job, json.loads(files.get(f"{job}.json", "[]")))

    def clear(self) -> None:
        """Remove all targets; Prometheus marks their series as stale."""
        for job in JOBS:
            self._replace(job, [])

    def addresses(self) -> dict[str, list[str]]:
        """Return the targets as the label `instance` names them: job -> list."""
        return {
            name.removesuffix(".json"): [
                group.get("labels", {}).get("instance", address)
                for group in json.loads(text)
                for address in group["targets"]
            ]
            for name, text in self.read().items()
        }

    def are_ours(self) -> bool:
        """Return whether the files are as this object last wrote them."""
        return self.read() == self._mine

    def _replace(self, job: str, groups: Sequence[Mapping[str, object]]) -> None:
        text = json.dumps(groups, indent=2) + "\n"
        path = atomic_file.write(self.folder / f"{job}.json", text, FOR_PROMETHEUS)
        self._mine[path.name] = text

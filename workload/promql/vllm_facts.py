"""The table of vLLM's facts and their names by release, read from `prometheus/vllm_metrics.yaml`."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Literal

import yaml
from packaging.version import Version

from workload.paths import asset

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class MetricName:
    """A name as it stands on /metrics, and the first and last release that shows it by default."""

    name: str
    since: str
    until: str | None = None

    def shown_in(self, version: str) -> bool:
        """Return whether a server of this release (`0.11.0`, `0.16.0rc1+cpu`) shows the name by default.

        Raises:
            packaging.version.InvalidVersion: the text is no version.
        """
        release = Version(version).release
        return Version(self.since).release <= release and (self.until is None or release <= Version(self.until).release)


@dataclass(frozen=True)
class Fact:
    """One thing vLLM measures, under every name it has had.

    Attributes:
        key: its name in the table.
        type: what kind of metric it is; `info` carries configuration in its labels.
        unit: unit of the values.
        names: the current name first, then older ones, newest first; all but a histogram's end as on /metrics.
        record: its part of the recorded names, or "" when it is not recorded.
        fast: whether the job vllm-fast keeps it.
        flag: the server flag without which it is not shown, or "".
        note: what a reader must know to compare releases.
    """

    key: str
    type: Literal["counter", "gauge", "histogram", "info"]
    unit: str
    names: tuple[MetricName, ...]
    record: str = ""
    _: KW_ONLY
    fast: bool = False
    flag: str = ""
    note: str = ""

    @property
    def current(self) -> str:
        """The name in current releases, or the last one it had."""
        return self.names[0].name

    @property
    def older(self) -> tuple[str, ...]:
        """The names it had before."""
        return tuple(name.name for name in self.names[1:])


def load_facts(path: Path | None = None) -> dict[str, Fact]:
    """Return the facts by key, from `path` or the shipped table.

    Raises:
        TypeError: an entry has a key that a fact does not have.
    """
    table: dict[str, Any] = yaml.safe_load((path or asset("prometheus/vllm_metrics.yaml")).read_text())["facts"]
    return {
        key: Fact(key=key, **entry | {"names": tuple(MetricName(**name) for name in entry["names"])})
        for key, entry in table.items()
    }

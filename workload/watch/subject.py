"""What is watched: engines, agents and exporters by their addresses, and how often they are scraped."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from workload.engine.endpoint import check_url
from workload.errors import UsageError
from workload.promql.scrape_interval import parse_interval
from workload.services.targets import LIVE, ArmLabels, target_groups
from workload.watch.folder import RECORD, read

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LABELS = ArmLabels(LIVE, "watch", "watch")
"""Of every target: dashboards and alerts select by run, experiment and arm, and there is no run."""


@dataclass(frozen=True)
class Subject:
    """What is watched.

    Attributes:
        vllm: checked endpoints of engines.
        workload: addresses of agents, host:port.
        exporter: addresses of `hop2rag-exporter`, host:port.
        interval_s: scrape interval in seconds.
        has_timelines: whether samples of 10 ms are stored, too.
    """

    vllm: tuple[str, ...]
    workload: tuple[str, ...] = ()
    exporter: tuple[str, ...] = ()
    interval_s: int = 15
    has_timelines: bool = True

    def targets(self) -> dict[str, list[Mapping[str, object]]]:
        """Return the labelled targets of each job, as a file of `file_sd_configs` or `static_configs` lists them."""
        return target_groups(LABELS, vllm=self.vllm, exporter=self.exporter, workload=self.workload)

    def as_dict(self) -> dict[str, Any]:
        """Return the values to store."""
        return asdict(self)


def subject(
    vllm: str, workload: str, exporter: str, *, scrape_interval: str = "15s", has_timelines: bool = True
) -> Subject:
    """Return what the options of `hop2rag watch` name; each lists addresses, separated by commas.

    Raises:
        UsageError: an address or the interval is not valid, or there is no address.
    """
    engines = tuple(check_url(one, "--vllm").removesuffix("/v1") for one in _listed(vllm))
    found = Subject(
        engines,
        tuple(_listed(workload)),
        tuple(_listed(exporter)),
        interval_s=parse_interval(scrape_interval),
        has_timelines=has_timelines,
    )
    if not any(found.targets().values()):
        raise UsageError("There is nothing to watch.", "Give --vllm http://HOST:PORT, --workload HOST:PORT, or both.")
    return found


def subject_of(folder: Path) -> Subject:
    """Return what a folder of `hop2rag watch` was rendered for.

    Raises:
        UsageError: the folder is not one, or its record is damaged.
    """
    try:
        return TypeAdapter(Subject).validate_python(read(folder).get("subject"))
    except ValidationError as error:
        raise UsageError(f"{folder / RECORD} is damaged.", "Run `hop2rag watch` again.") from error


def _listed(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]

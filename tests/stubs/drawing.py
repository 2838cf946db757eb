"""A drawing without Prometheus: panels are empty, pictures are of the run's own rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from workload.charts.drawing import Drawing
from workload.record.bundle import Bundle
from workload.services.prometheus import NoDataError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from workload.experiment import Experiment
    from workload.record.results import RunData
    from workload.services.prometheus import PrometheusClient

RUN = "20250131-235959-x"


class Silent:
    """A Prometheus that has nothing."""

    def query(self, promql: str, at: float | None = None) -> None:
        """Answer as the client does where there is no series."""
        raise NoDataError(promql, None if at is None else (at, at))

    def query_range(self, promql: str, start: float, end: float, _: float) -> None:
        """Answer as the client does where there is no series."""
        raise NoDataError(promql, (start, end))


def drawing_of(experiment: Experiment, data: RunData, summary: Mapping[str, Any], folder: Path) -> Drawing:
    """Return what an experiment's `draw` takes; its files go to `folder`."""
    arms = tuple(arm.name for arm in experiment.arms)
    client = cast("PrometheusClient", Silent())
    bundle = Bundle(folder, RUN)
    return Drawing(
        experiment.name,
        arms,
        data,
        dict(summary),
        client,
        bundle=bundle,
        folder=folder,
        footer=f"run {RUN}; a stub, no engine",
    )

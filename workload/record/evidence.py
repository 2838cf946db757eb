"""What can still be asked once the load is over: stored series, raw GPU samples, texts, the agent's retrieval."""

from __future__ import annotations

import csv
import io
import json
import math
from array import array
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from workload.errors import UsageError
from workload.promql.gpu_memory import PROCESS_MEMORY
from workload.promql.selectors import NOT_WARM_UP, selector
from workload.record import journal
from workload.record.api_processes import joined
from workload.services.prometheus import CounterResetError, NoDataError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from workload.corpus.retrieve import Retrieve
    from workload.engine.message import Message
    from workload.record.bundle import Bundle
    from workload.record.results import Measured
    from workload.record.window import Window
    from workload.services.prometheus import PrometheusClient, Sample, Series
    from workload.settings import Settings


@dataclass(frozen=True, eq=False)
class GpuSamples:
    """Every sample of one GPU in a window: `times` in seconds since the epoch, `used` device memory in bytes.

    `utilization` is the duty cycle, 0 to 1; NaN where it was not known. All have the shape (n,).
    """

    times: NDArray[np.float64]
    used: NDArray[np.float64]
    utilization: NDArray[np.float64]

    def within(self, start: float, end: float) -> GpuSamples:
        """Return the samples from `start` to `end`, both included."""
        part = slice(np.searchsorted(self.times, start), np.searchsorted(self.times, end, side="right"))
        return GpuSamples(self.times[part], self.used[part], self.utilization[part])


@dataclass(frozen=True)
class Text:
    """What was said in one LLM call."""

    messages: list[Message]
    reply: str


@dataclass(frozen=True)
class Evidence:
    """The sources of one run.

    Attributes:
        client: Prometheus.
        experiment: the experiment's name, which labels its series.
        bundle: the run's folder.
        settings: what the run was asked to do.
        retrieve: the ids of the documents that the agent's retrieval finds for a query; None without a store.
    """

    client: PrometheusClient
    experiment: str
    bundle: Bundle
    settings: Settings
    retrieve: Retrieve | None = None

    def stored(self, metric: str, window: Window, **labels: str) -> list[Series]:
        """Return the stored samples of a metric in a window, at their own times; empty when it is absent.

        Each engine has one series, whatever processes of it show theirs.

        Raises:
            PrometheusError: Prometheus failed.
        """
        try:
            found = self.client.raw(self.selector(metric, window, **labels), window.start, window.end)
        except NoDataError:
            return []
        return joined(metric, found)

    def increases(self, metric: str, window: Window, **labels: str) -> list[Sample]:
        """Return the exact increase of each series of a counter between a window's ends; empty when it is absent.

        Empty also when a series fell in between, for what it lost is not known; the run's warnings then say so.

        Raises:
            PrometheusError: Prometheus failed.
        """
        try:
            return self.client.counter_deltas(self.selector(metric, window, **labels), window.start, window.end)
        except NoDataError:
            return []
        except CounterResetError as error:
            self.client.warnings.append(error.cause)
            return []

    def selector(self, metric: str, window: Window, **labels: str) -> str:
        """Return the PromQL of a metric of this run."""
        own = {"run": self.bundle.run_id, "experiment": self.experiment, "arm": window.arm}
        return selector(metric, {**labels, **own}, NOT_WARM_UP)

    def gpu_samples(self, measured: Measured) -> dict[str, GpuSamples]:
        """Return every sample of the exporter's raw log in a window, of each GPU that served its engine.

        The log is the record, of which Prometheus is a view. Empty when no GPU was seen, or when which served is not
        told.
        """
        seen = self.seen_gpus(measured.window)
        served = self.served_gpus(measured, seen)
        return {gpu: samples for gpu, samples in seen.items() if gpu in served}

    def seen_gpus(self, window: Window) -> dict[str, GpuSamples]:
        """Return the samples in a window of every GPU of the host, whoever used it; empty when none was seen."""
        inside = {gpu: found.within(window.start, window.end) for gpu, found in self._gpu_log.items()}
        return {gpu: found for gpu, found in inside.items() if len(found.times)}

    def served_gpus(self, measured: Measured, seen: Collection[str]) -> frozenset[str]:
        """Return those of the GPUs seen that served a window's engine: on which its processes had memory.

        A GPU that was seen alone served, whether or not the driver tells of processes, which in a container it mostly
        does not. Of several, without such word, none is known to have served.

        Raises:
            PrometheusError: Prometheus failed.
        """
        pids = {str(pid) for pid in measured.engine.get("pids") or ()}
        held = self.stored(PROCESS_MEMORY, measured.window) if pids else []
        by_pid = {series.labels["gpu"] for series in held if series.labels["pid"] in pids} & set(seen)
        return frozenset(by_pid or (seen if len(seen) == 1 else ()))

    @cached_property
    def _gpu_log(self) -> dict[str, GpuSamples]:
        """All samples of the run by GPU, in the order of time; every window of a run looks at them."""
        rows: dict[str, array[float]] = defaultdict(lambda: array("d"))
        for path in sorted((self.bundle.folder / "nvml").glob("nvml_*.csv")):
            for gpu, *row in read_raw_log(path):
                rows[gpu].extend(row)
        tables = {gpu: np.asarray(found).reshape(-1, 3) for gpu, found in sorted(rows.items())}
        return {gpu: GpuSamples(*table[np.argsort(table[:, 0], kind="stable")].T) for gpu, table in tables.items()}

    @cached_property
    def texts(self) -> dict[int, Text]:
        """What was said in each LLM call, by the call's id; empty without `--record-prompts`."""
        return {
            row["call"]: Text(json.loads(row["messages"]), row["reply"])
            for row in journal.read(self.bundle.journal, "call_text")
        }


def read_raw_log(path: Path) -> Iterator[tuple[str, float, float, float]]:
    """Yield the samples of one file of the exporter's raw log: GPU, seconds since the epoch, bytes used, duty cycle.

    An exporter that was killed leaves a last line without an end, which is no sample.

    Raises:
        UsageError: the file is damaged.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    whole = text[: text.rfind("\n") + 1]
    try:
        for row in csv.DictReader(io.StringIO(whole)):
            yield _sample(row)
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise UsageError(f"{path} is damaged ({error!r}).", "Leave it out, and try again.") from error


def _sample(row: Mapping[str, str]) -> tuple[str, float, float, float]:
    utilization = float(row["sm_util_pct"] or "nan") / 100
    time_ms, used = float(row["ts_ms"]), float(row["mem_used_bytes"])
    if not (row["gpu"] and math.isfinite(time_ms) and 0 <= used < math.inf) or abs(utilization) > 1:
        raise ValueError("a row tells what no GPU can")
    return row["gpu"], time_ms / 1000, used, utilization

"""The sources of a run besides its journal's rows: stored series, raw GPU samples, texts, the agent's retrieval."""

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
from workload.services.prometheus import CounterResetError, NoDataError, PrometheusClient, Sample, Series

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from workload.corpus.document import Retrieve
    from workload.engine.message import Message
    from workload.record.bundle import Bundle
    from workload.record.results import Measured
    from workload.record.window import Window
    from workload.settings import Settings

# Some releases of vLLM export a series per API process, with a label `pid`.
OF_VLLM = "vllm:"
COUNTER = "_total"
PROCESS = "pid"


@dataclass(frozen=True, eq=False)
class GpuSamples:
    """All samples of one GPU in a window: `times` in seconds since the epoch, `used` device memory in bytes.

    `utilization` is the duty cycle, 0 to 1, or NaN if unknown. All have the shape (n,).
    """

    times: NDArray[np.float64]
    used: NDArray[np.float64]
    utilization: NDArray[np.float64]

    def within(self, start: float, end: float) -> GpuSamples:
        """Return the samples from `start` to `end`, both inclusive."""
        part = slice(np.searchsorted(self.times, start), np.searchsorted(self.times, end, side="right"))
        return GpuSamples(self.times[part], self.used[part], self.utilization[part])


@dataclass(frozen=True)
class Text:
    """The messages and the reply of one LLM call."""

    messages: list[Message]
    reply: str


@dataclass(frozen=True)
class Evidence:
    """The sources of one run.

    Attributes:
        experiment: the experiment's name, which labels its series.
        retrieve: the ids of the documents that the agent's retrieval finds for a query; None without a store.
    """

    client: PrometheusClient
    experiment: str
    bundle: Bundle
    settings: Settings
    retrieve: Retrieve | None = None

    def stored(self, metric: str, window: Window, **labels: str) -> list[Series]:
        """Return the stored samples of a metric in a window, at their own times; empty if it is absent.

        Each engine has one series, even if several of its processes export theirs.

        Raises:
            PrometheusError: Prometheus failed.
        """
        try:
            found = self.client.raw(self.selector(metric, window, **labels), window.start, window.end)
        except NoDataError:
            return []
        return joined(metric, found)

    def increases(self, metric: str, window: Window, **labels: str) -> list[Sample]:
        """Return the exact increase of each series of a counter between a window's ends; empty if it is absent.

        Empty also if a series was reset in between, because the loss is unknown; the run's warnings then say so.

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
        """Return all samples of the exporter's raw log in a window, for each GPU that served its engine.

        The log is complete; Prometheus has a part of it. Empty if no GPU was seen, or if the GPUs of the engine are
        unknown.
        """
        seen = self.seen_gpus(measured.window)
        served = self.served_gpus(measured, seen)
        return {gpu: samples for gpu, samples in seen.items() if gpu in served}

    def seen_gpus(self, window: Window) -> dict[str, GpuSamples]:
        """Return the samples in a window of each GPU of the host, whichever program used it; empty without a GPU."""
        inside = {gpu: found.within(window.start, window.end) for gpu, found in self._gpu_log.items()}
        return {gpu: found for gpu, found in inside.items() if len(found.times)}

    def served_gpus(self, measured: Measured, seen: Collection[str]) -> frozenset[str]:
        """Return the GPUs that served a window's engine: those on which its processes used memory.

        A single GPU counts even if the driver lists no processes, as is usual in a container. With several GPUs and no
        list of processes, the answer is empty: the GPUs of the engine are unknown.

        Raises:
            PrometheusError: Prometheus failed.
        """
        pids = {str(pid) for pid in measured.engine.get("pids") or ()}
        used = self.stored(PROCESS_MEMORY, measured.window) if pids else []
        by_pid = {series.labels["gpu"] for series in used if series.labels["pid"] in pids} & set(seen)
        return frozenset(by_pid or (seen if len(seen) == 1 else ()))

    @cached_property
    def _gpu_log(self) -> dict[str, GpuSamples]:
        """All samples of the run by GPU, in order of time; read once for all windows."""
        rows: dict[str, array[float]] = defaultdict(lambda: array("d"))
        for path in sorted((self.bundle.folder / "nvml").glob("nvml_*.csv")):
            for gpu, *row in read_raw_log(path):
                rows[gpu].extend(row)
        tables = {gpu: np.asarray(found).reshape(-1, 3) for gpu, found in sorted(rows.items())}
        return {gpu: GpuSamples(*table[np.argsort(table[:, 0], kind="stable")].T) for gpu, table in tables.items()}

    @cached_property
    def texts(self) -> dict[int, Text]:
        """Messages and reply of each LLM call, by the call's id; empty without `--record-prompts`."""
        return {
            row["call"]: Text(json.loads(row["messages"]), row["reply"])
            for row in journal.read(self.bundle.journal, "call_text")
        }


def read_raw_log(path: Path) -> Iterator[tuple[str, float, float, float]]:
    """Yield the samples of one file of the exporter's raw log: GPU, seconds since the epoch, bytes used, duty cycle.

    An exporter that was killed may leave an unfinished last line, which is ignored.

    Raises:
        UsageError: the file is damaged.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    whole = text[: text.rfind("\n") + 1]
    try:
        for row in csv.DictReader(io.StringIO(whole)):
            yield _sample(row)
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise UsageError(f"{path} is damaged ({error!r}).", "Remove it, then try again.") from error


def _sample(row: Mapping[str, str]) -> tuple[str, float, float, float]:
    utilization = float(row["sm_util_pct"] or "nan") / 100
    time_ms, used = float(row["ts_ms"]), float(row["mem_used_bytes"])
    if not (row["gpu"] and math.isfinite(time_ms) and 0 <= used < math.inf) or abs(utilization) > 1:
        raise ValueError("a row has impossible values")
    return row["gpu"], time_ms / 1000, used, utilization


def joined(metric: str, found: Sequence[Series]) -> list[Series]:
    """Return one series per engine, at the times of the samples of any of its processes.

    The recording rules do the same: counters of processes are summed; of gauges, each process exports the engine's
    value or 0, so the largest counts. Series of other programs keep their `pid`.
    """
    if not metric.startswith(OF_VLLM):
        return list(found)
    parts: dict[tuple[tuple[str, str], ...], list[Series]] = defaultdict(list)
    for series in found:
        parts[tuple(sorted((name, value) for name, value in series.labels.items() if name != PROCESS))].append(series)
    return [series[0] if len(series) == 1 else _one(metric, dict(labels), series) for labels, series in parts.items()]


def _one(metric: str, labels: dict[str, str], parts: Sequence[Series]) -> Series:
    times = np.unique(np.concatenate([part.times for part in parts]))
    table = np.zeros((len(parts), len(times)))
    for row, part in zip(table, parts, strict=True):
        row[np.searchsorted(times, part.times)] = part.values
    return Series(labels, times, table.sum(axis=0) if metric.endswith(COUNTER) else table.max(axis=0))

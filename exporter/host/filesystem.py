"""How full the file systems of the results and of Prometheus' data are."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from prometheus_client.core import GaugeMetricFamily

from exporter.collector import COLLECT_SECONDS, IncompleteError
from exporter.errors import UsageError
from exporter.timed_call import TimedCall

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prometheus_client import Metric

FLAG = "--collector.filesystem"
VOLUME_SECONDS = 0.7 * COLLECT_SECONDS
_VOLUME = re.compile(r"([a-z][a-z0-9_-]{0,31})=(.+)")


class FilesystemCollector:
    """Reads the size and the free space of each volume's file system at each scrape.

    Each volume is read separately: a network file system whose server is gone never answers, and the other disks must
    stay visible.

    Args:
        volumes: name, which becomes the label -> a folder on the file system. No path becomes a label.
    """

    def __init__(self, volumes: Mapping[str, Path], seconds: float = VOLUME_SECONDS) -> None:
        self._volumes = {
            volume: TimedCall(partial(psutil.disk_usage, str(path)), seconds, f"volume-{volume}")
            for volume, path in volumes.items()
        }

    def collect(self) -> Iterator[Metric]:
        """Yield size and free space by volume.

        Raises:
            IncompleteError: a folder is missing, not readable, or does not answer; its volume has no series.
        """
        size = GaugeMetricFamily(
            "hop2rag_host_filesystem_size_bytes", "Size of a volume's file system.", labels=["volume"]
        )
        avail = GaugeMetricFamily(
            "hop2rag_host_filesystem_avail_bytes",
            "Space left on a volume's file system for users other than root.",
            labels=["volume"],
        )
        missing = []
        asked = {volume: call.begin() for volume, call in self._volumes.items()}
        for volume, pending in asked.items():
            try:
                usage = pending.wait()
            except OSError as error:  # TimeoutError is one
                missing.append(f"{volume} ({error.strerror or 'no answer'})")
            else:
                size.add_metric([volume], usage.total)
                avail.add_metric([volume], usage.free)
        families = [family for family in (size, avail) if family.samples]
        if missing:
            raise IncompleteError(f"volumes: {', '.join(missing)}", families)
        yield from families


def parse_volumes(given: Iterable[str]) -> dict[str, Path]:
    """Return the volumes of flags such as `results=/data/results`.

    Raises:
        UsageError: a flag is not NAME=PATH, or a name is repeated.
    """
    volumes: dict[str, Path] = {}
    for text in given:
        match = _VOLUME.fullmatch(text)
        if not match or match[1] in volumes:
            raise UsageError(f"{FLAG} {text} is not allowed.", "Use NAME=PATH, each name once: results=/data/results.")
        volumes[match[1]] = Path(match[2])
    return volumes

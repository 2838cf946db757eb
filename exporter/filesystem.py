"""How full the file systems are that results and Prometheus' data are written to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from prometheus_client.core import GaugeMetricFamily

from exporter.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prometheus_client import Metric

FLAG = "--collector.filesystem"
_VOLUME = re.compile(r"([a-z][a-z0-9_-]{0,31})=(.+)")


class FilesystemCollector:
    """Asks for the size and the free space of each volume's file system at each scrape.

    Args:
        volumes: name, which becomes the label, -> a folder on the file system. Paths stay out of the series.
    """

    def __init__(self, volumes: Mapping[str, Path]) -> None:
        self._volumes = volumes

    def collect(self) -> Iterator[Metric]:
        """Yield size and free space by volume.

        Raises:
            OSError: a folder is not there, or may not be looked into.
        """
        size = GaugeMetricFamily(
            "hop2rag_host_filesystem_size_bytes", "Size of a volume's file system.", labels=["volume"]
        )
        avail = GaugeMetricFamily(
            "hop2rag_host_filesystem_avail_bytes",
            "Space left on a volume's file system for users other than root.",
            labels=["volume"],
        )
        for volume, path in self._volumes.items():
            usage = psutil.disk_usage(str(path))
            size.add_metric([volume], usage.total)
            avail.add_metric([volume], usage.free)
        yield from (size, avail)


def parse_volumes(given: Iterable[str]) -> dict[str, Path]:
    """Return the volumes of flags such as `results=/data/results`.

    Raises:
        UsageError: a flag is no NAME=PATH, or a name comes twice.
    """
    volumes: dict[str, Path] = {}
    for text in given:
        match = _VOLUME.fullmatch(text)
        if not match or match[1] in volumes:
            raise UsageError(f"{FLAG} {text} is not allowed.", "Give NAME=PATH, each name once: results=/data/results.")
        volumes[match[1]] = Path(match[2])
    return volumes

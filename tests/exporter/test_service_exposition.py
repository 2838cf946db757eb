"""One golden exposition per backend: a renamed or vanished series is a diff to review."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from exporter.gpu.nvml import NvmlReader
from exporter.service import Config, Exporter
from exporter.timeline import MEMORY_USED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.exporter.conftest import FakeNvml, FakeReader
    from workload.services.prometheus_binary import PrometheusBinary

GOLDEN = Path(__file__).parents[1] / "golden"
PLAIN_TEXT = {"Accept-Encoding": "identity"}
_VALUE = re.compile(r" [^ ]+$")
# What Python's client and this process add depends on the host; creation times are switched off on the command line.
_LEFT_OUT = re.compile(r"(# (HELP|TYPE) )?(process_|\w+_created[ {])")


def mask(exposition: str, *, keeps_values: bool) -> str:
    """Return names, labels, types and texts; values only of GPUs that never change."""
    lines = []
    for line in exposition.splitlines():
        is_fixed = line.startswith("#") or (keeps_values and line.startswith("nvml_"))
        if not _LEFT_OUT.match(line):
            lines.append(line if is_fixed else _VALUE.sub("", line))
    return re.sub(r'version="[^"]*"', 'version="X"', "\n".join(lines)) + "\n"


@pytest.fixture(params=["nvml", "replay", "none", "complete"])
def exporter(
    request: pytest.FixtureRequest,
    nvml: FakeNvml,
    make_reader: Callable[..., FakeReader],
    recording: Path,
    wait_until: Callable[..., None],
) -> Iterator[tuple[str, str]]:
    """Run an exporter over one backend; yield the backend's name and the URL, once its slow readings are in."""
    readers = {
        "nvml": NvmlReader(nvml),
        "replay": None,
        "none": make_reader(),
        "complete": make_reader("0", "1:0"),
    }
    name = request.param
    config = Config(
        port=0,
        pcie=True,
        gpu_processes=True,
        replay_file=recording if name == "replay" else None,
        volumes={"results": recording.parent},
    )
    exporter = Exporter(config, readers[name])
    try:
        url = f"http://{exporter.start()}"
        awaited = {"nvml": "sample_rate_hertz{", "none": "nvml_up 0"}.get(name, "nvml_sm_clock_hertz{")
        wait_until(lambda: awaited in httpx.get(f"{url}/metrics").text)
        yield name, url
    finally:
        exporter.stop()


def test_exposition_is_golden(exporter: tuple[str, str]) -> None:
    """Dashboards and alerts name these series; a change here must be a decision."""
    name, url = exporter
    seen = mask(httpx.get(f"{url}/metrics", headers=PLAIN_TEXT).text, keeps_values=name != "replay")
    golden = GOLDEN / f"exposition_{name}.prom"
    expected = golden.read_text() if golden.exists() else ""
    if seen != expected:
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(seen)
    assert seen == expected, f"{golden.name} was regenerated: look at the difference, commit it, run again"


@pytest.mark.prometheus
@pytest.mark.parametrize("page", ["/metrics", "/metrics/timeline"])
def test_promtool_accepts_the_exposition(exporter: tuple[str, str], page: str, prometheus: PrometheusBinary) -> None:
    """Prometheus's own linter knows the naming rules better than we do.

    That of 3.x takes many timestamps of one series for many series, and a timeline is nothing else.
    """
    _, url = exporter
    text = httpx.get(url + page, headers=PLAIN_TEXT).text
    argv = [prometheus.promtool, "check", "metrics"]
    check = subprocess.run(argv, input=text, text=True, capture_output=True, check=False)
    timeline = {f"{MEMORY_USED} metric not unique"} if page == "/metrics/timeline" else set()
    assert set(check.stderr.splitlines()) <= timeline, check.stdout

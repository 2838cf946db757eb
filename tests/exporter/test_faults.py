"""Faults 1 to 3 on a whole exporter: what a scrape shows while the GPU's side is broken.

Rows 4 and 5 lie beside the connections and the labels they concern.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import httpx
import pytest

from exporter import sampler as sampler_module
from exporter.errors import MissingPartError
from exporter.nvml import NvmlReader
from exporter.service import Config, Exporter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.exporter.conftest import FakeNvml, FakeReader


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., httpx.Client]]:
    """Return a function that runs an exporter over a backend and returns a client for it."""
    monkeypatch.setattr(sampler_module, "BACKOFF_SECONDS", (0.05, 0.2))
    started: list[tuple[Exporter, httpx.Client]] = []

    def begin(reader: object, **options: object) -> httpx.Client:
        exporter = Exporter(Config(port=0, **options), reader)  # type: ignore[arg-type]
        client = httpx.Client(base_url=f"http://{exporter.start()}")
        started.append((exporter, client))
        return client

    yield begin
    for exporter, client in started:
        client.close()
        exporter.stop()


def scrape(client: httpx.Client) -> str:
    """Return the exposition without comments."""
    return "\n".join(line for line in client.get("/metrics").text.splitlines() if not line.startswith("#"))


def test_row_01_without_a_driver_everything_else_is_served(
    run: Callable[..., httpx.Client], nvml: FakeNvml, wait_until: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    """Fault row 1: no GPU is a fact worth a series and one log line, not a reason to be silent about the host."""
    nvml.fail("nvmlInit", "LIBRARY_NOT_FOUND")
    client = run(NvmlReader(nvml))
    wait_until(lambda: client.get("/-/ready").status_code == 200)
    text = scrape(client)
    assert "nvml_up 0.0" in text
    assert "hop2rag_host_memory_available_bytes" in text
    assert "nvml_memory" not in text
    time.sleep(0.5)
    assert [record.message for record in caplog.records if "LIBRARY_NOT_FOUND" in record.message] == [
        "No GPU metrics: LIBRARY_NOT_FOUND. Everything else is served; NVML is tried again."
    ]


def test_row_01_a_required_gpu_that_is_missing_exits_with_3(nvml: FakeNvml) -> None:
    """Fault row 1: on a GPU node a missing driver must fail the unit."""
    nvml.fail("nvmlInit", "DRIVER_NOT_LOADED")
    exporter = Exporter(Config(port=0, require_gpu=True), NvmlReader(nvml))
    with pytest.raises(MissingPartError, match="DRIVER_NOT_LOADED") as caught:
        exporter.start()
    exporter.stop()
    assert caught.value.exit_code == 3


def test_row_01_a_driver_that_comes_later_is_found(
    run: Callable[..., httpx.Client], nvml: FakeNvml, wait_until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node's driver may be installed after its exporter has started."""
    monkeypatch.setattr("exporter.fleet.BACKOFF_SECONDS", (0.05, 0.2))
    nvml.fail("nvmlInit", "DRIVER_NOT_LOADED")
    client = run(NvmlReader(nvml))
    wait_until(lambda: "nvml_up 0.0" in scrape(client))
    nvml.answers["nvmlInit"] = None
    wait_until(lambda: "nvml_up 1.0" in scrape(client))


def test_row_02_a_gpu_lost_mid_run(
    run: Callable[..., httpx.Client], make_reader: Callable[..., FakeReader], wait_until: Callable[..., None]
) -> None:
    """Fault row 2: its series vanish within two seconds, the code is counted, its neighbour's go on."""
    reader = make_reader("0", "1")
    client = run(reader)
    wait_until(lambda: 'nvml_energy_joules_total{gpu="1"}' in scrape(client))
    assert "nvml_up 1.0" in scrape(client)
    reader.devices[1].failure = "GPU_IS_LOST"
    wait_until(lambda: 'nvml_gpu_up{gpu="1"} 0.0' in scrape(client), 2.0)
    text = scrape(client)
    assert "nvml_up 0.0" in text
    assert 'nvml_memory_used_bytes{gpu="1"}' not in text
    assert 'nvml_energy_joules_total{gpu="1"}' not in text
    assert 'nvml_memory_used_bytes{gpu="0"}' in text
    assert 'nvml_errors_total{code="GPU_IS_LOST",gpu="1"}' in text
    reader.devices[1].failure = None
    wait_until(lambda: "nvml_up 1.0" in scrape(client))


def test_row_03_a_hanging_nvml_call_delays_no_scrape(
    run: Callable[..., httpx.Client], make_reader: Callable[..., FakeReader], wait_until: Callable[..., None]
) -> None:
    """Fault row 3: /metrics p99 stays under 100 ms, the sample's age grows, no frozen value is served."""
    reader = make_reader("0", "1")
    client = run(reader)
    wait_until(lambda: 'nvml_memory_used_bytes{gpu="0"}' in scrape(client))
    reader.devices[0].hang_seconds = 60.0
    durations, ages = [], []
    end = time.monotonic() + 3.0
    while time.monotonic() < end:
        start = time.perf_counter()
        text = scrape(client)
        durations.append(time.perf_counter() - start)
        ages += [
            float(line.split()[1])
            for line in text.splitlines()
            if line.startswith('hop2rag_exporter_sample_age_seconds{gpu="0"}')
        ]
        time.sleep(0.01)
    assert sorted(durations)[int(len(durations) * 0.99)] < 0.100
    assert ages[-1] > 2.5
    assert ages[-1] > ages[len(ages) // 2]
    assert 'nvml_memory_used_bytes{gpu="0"}' not in text
    assert 'nvml_power_watts{gpu="0"}' not in text
    assert 'nvml_memory_used_bytes{gpu="1"}' in text
    assert "nvml_up 0.0" in text


def test_row_03_a_backend_that_hangs_at_start_does_not_hold_up_the_server(run: Callable[..., httpx.Client]) -> None:
    """Fault row 3: nvmlInit itself can hang on a broken driver."""

    class HangingReader:
        def open(self) -> list[object]:
            time.sleep(5)
            return []

    start = time.monotonic()
    client = run(HangingReader())
    assert "nvml_up 0.0" in scrape(client)
    assert client.get("/-/ready").status_code == 503
    assert time.monotonic() - start < 2


def test_the_raw_log_of_a_run_is_complete(
    run: Callable[..., httpx.Client],
    make_reader: Callable[..., FakeReader],
    wait_until: Callable[..., None],
    tmp_path: Path,
) -> None:
    """The record on disk is written beside everything else, without being asked for each time."""
    client = run(make_reader("0"), raw_log_directory=tmp_path)
    wait_until(lambda: "hop2rag_exporter_raw_log_rows_total 0.0" not in scrape(client))
    (path,) = tmp_path.iterdir()
    assert len(path.read_text().splitlines()) > 50

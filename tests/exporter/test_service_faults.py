"""Faults 1 to 3 on a whole exporter: what a scrape shows while the GPU's side is broken.

Rows 4 and 5 are tested with the connections and the labels.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import httpx
import pytest

from exporter.errors import MissingPartError
from exporter.gpu import sampler as sampler_module
from exporter.gpu.nvml import NvmlReader
from exporter.service import Config, Exporter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.exporter.conftest import FakeDevice, FakeNvml, FakeReader


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., httpx.Client]]:
    """Return a function that runs an exporter over a backend and returns a client for it."""
    monkeypatch.setattr(sampler_module, "BACKOFF_SECONDS", (0.05, 0.2))
    monkeypatch.setattr("exporter.gpu.devices.BACKOFF_SECONDS", (0.05, 0.2))
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
    wait_until(lambda: nvml.calls.count("nvmlInit") >= 3)
    assert [record.message for record in caplog.records if "LIBRARY_NOT_FOUND" in record.message] == [
        "No GPU metrics: LIBRARY_NOT_FOUND. All other metrics are served; NVML is tried again."
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
    run: Callable[..., httpx.Client], nvml: FakeNvml, wait_until: Callable[..., None]
) -> None:
    """A node's driver may be installed after its exporter has started."""
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
    wait_until(lambda: 'nvml_gpu_up{gpu="1"} 0.0' in scrape(client))
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
    """Fault row 3: while the call hangs, scrapes are answered, the sample's age grows, no frozen value is served."""
    reader, hangs = make_reader("0", "1"), threading.Event()
    client = run(reader)
    wait_until(lambda: 'nvml_power_watts{gpu="0"}' in scrape(client))
    reader.devices[0].memory = lambda: hangs.wait() and None  # type: ignore[method-assign,assignment,return-value]
    wait_until(lambda: 'nvml_gpu_up{gpu="0"} 0.0' in scrape(client))
    text = scrape(client)
    assert 'nvml_memory_used_bytes{gpu="0"}' not in text
    assert 'nvml_power_watts{gpu="0"}' not in text
    assert 'nvml_memory_used_bytes{gpu="1"}' in text
    assert "nvml_up 0.0" in text
    assert age_of("0", scrape(client)) > age_of("0", text) > 2
    hangs.set()


def age_of(gpu: str, text: str) -> float:
    """Return the age of a GPU's last sample, in seconds."""
    prefix = f'hop2rag_exporter_sample_age_seconds{{gpu="{gpu}"}} '
    return next(float(line.removeprefix(prefix)) for line in text.splitlines() if line.startswith(prefix))


def test_row_03_a_backend_that_hangs_at_start_does_not_hold_up_the_server(run: Callable[..., httpx.Client]) -> None:
    """Fault row 3: nvmlInit itself can hang on a broken driver."""
    hangs = threading.Event()

    class HangingReader:
        def open(self) -> list[object]:
            hangs.wait()
            return []

    client = run(HangingReader())
    assert "nvml_up 0.0" in scrape(client)
    assert client.get("/-/ready").status_code == 503
    hangs.set()


@pytest.mark.parametrize("error", [OSError(5, "I/O"), UnicodeDecodeError("utf-8", b"x", 0, 1, "x"), TypeError("x")])
def test_a_backend_that_raises_anything_is_tried_again(
    run: Callable[..., httpx.Client],
    make_reader: Callable[..., FakeReader],
    wait_until: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    """The thread that looks for GPUs must not end unexpectedly: nothing would look again, /-/ready would stay 503."""
    reader = make_reader("0")
    healthy, failing = reader.open, [error, error]

    def open_late() -> list[FakeDevice]:
        if failing:
            raise failing.pop()
        return healthy()

    monkeypatch.setattr(reader, "open", open_late)
    client = run(reader)
    wait_until(lambda: client.get("/-/ready").status_code == 200)
    wait_until(lambda: "nvml_up 1.0" in scrape(client))


def test_a_gpu_without_memory_of_its_own_is_served(
    run: Callable[..., httpx.Client], nvml: FakeNvml, wait_until: Callable[..., None]
) -> None:
    """A GB10 shares the host's memory. Taken for lost it had no power either, and GpuLost paused each run."""
    nvml.answers |= {"nvmlDeviceGetPowerUsage": 11_200, "nvmlDeviceGetTemperature": 35}
    nvml.fail("nvmlDeviceGetMemoryInfo", "NOT_SUPPORTED")
    client = run(NvmlReader(nvml))
    wait_until(lambda: 'nvml_temperature_celsius{gpu="0"} 35.0' in scrape(client))
    text = scrape(client)
    assert 'nvml_gpu_up{gpu="0"} 1.0' in text
    assert 'nvml_power_watts{gpu="0"} 11.2' in text
    assert "nvml_memory_used_bytes" not in text
    assert "nvml_errors_total" not in text
    assert "nvmlShutdown" not in nvml.calls


def test_the_raw_log_of_a_run_is_complete(
    run: Callable[..., httpx.Client],
    make_reader: Callable[..., FakeReader],
    wait_until: Callable[..., None],
    tmp_path: Path,
) -> None:
    """The raw log is written continuously, independent of scrapes."""
    client = run(make_reader("0"), raw_log_directory=tmp_path)
    wait_until(lambda: "hop2rag_exporter_raw_log_rows_total 0.0" not in scrape(client))
    (path,) = tmp_path.iterdir()
    assert len(path.read_text().splitlines()) > 50

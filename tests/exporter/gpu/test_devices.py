"""All GPUs of a backend: found late, found once, and stopped whatever hangs."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry

from exporter.gpu import devices
from exporter.gpu.devices import Gpus
from exporter.gpu.readings import GpuError
from exporter.gpu.sampler import GpuSampler, SamplerMetrics
from tests.exporter.conftest import FakeDevice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Gather = Callable[..., Gpus]
    Wait = Callable[[Callable[[], bool]], None]


class Backend:
    """Gives its answers in order, then the last one forever; raises those that are exceptions."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.opened = 0

    def open(self) -> Any:
        """Return the next answer."""
        answer = self._answers[min(self.opened, len(self._answers) - 1)]
        self.opened += 1
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def gather(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gather]:
    """Return a function that makes the GPUs of a backend, which is asked again at once; they are stopped at the end."""
    monkeypatch.setattr(devices, "BACKOFF_SECONDS", (0.001, 0.001))
    made: list[Gpus] = []
    metrics = SamplerMetrics(CollectorRegistry())

    def make(backend: Any) -> Gpus:
        made.append(Gpus(backend, lambda device: GpuSampler(device, [], metrics)))
        return made[-1]

    yield make
    for gpus in made:
        gpus.stop()


def test_before_the_first_answer_nothing_is_known(gather: Gather) -> None:
    """A scrape may come first; it must not take a backend that still loads for one without GPUs."""
    gpus = gather(Backend([FakeDevice()]))
    assert (gpus.records, gpus.is_up, gpus.is_settled) == ([], False, False)
    assert gpus.failure == "no answer yet"


def test_every_gpu_that_is_found_is_sampled(gather: Gather, wait_until: Wait) -> None:
    """One GPU without a sampler would look like one that is lost."""
    gpus = gather(Backend([FakeDevice("0"), FakeDevice("1")]))
    gpus.start(patience_seconds=30)
    assert gpus.is_settled
    assert gpus.failure is None
    assert [record.info.gpu for record in gpus.records] == ["0", "1"]
    wait_until(lambda: gpus.is_up)


@pytest.mark.parametrize(
    ("answer", "failure"),
    [(GpuError("DRIVER_NOT_LOADED"), "DRIVER_NOT_LOADED"), (RuntimeError("odd"), "RuntimeError"), ([], "no GPU")],
    ids=["no driver", "any exception", "no GPU"],
)
def test_a_driver_that_comes_later_is_found(
    gather: Gather, wait_until: Wait, caplog: pytest.LogCaptureFixture, answer: Any, failure: str
) -> None:
    """On a new host the driver is installed after the exporter; a restart by hand must not be needed for it."""
    backend = Backend(answer, answer, answer, [FakeDevice()])
    gpus = gather(backend)
    with caplog.at_level(logging.WARNING):
        gpus.start()
        wait_until(lambda: gpus.is_up)
    assert backend.opened == 4
    assert [record.getMessage() for record in caplog.records] == [
        f"No GPU metrics: {failure}. All other metrics are served; NVML is tried again."
    ]


def test_one_lost_gpu_takes_all_down(gather: Gather, wait_until: Wait) -> None:
    """`nvml_up` is what an alert watches: it must not say 1 while one of eight GPUs is gone."""
    lost = FakeDevice("1")
    gpus = gather(Backend([FakeDevice("0"), lost]))
    gpus.start(patience_seconds=30)
    wait_until(lambda: gpus.is_up)
    lost.failure = "GPU_IS_LOST"
    wait_until(lambda: not gpus.is_up)
    assert [record.is_up for record in gpus.records] == [True, False]


def test_a_backend_that_hangs_delays_neither_start_nor_stop(gather: Gather, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a broken driver can hang forever; meanwhile the other collectors are served, and the process can end."""
    monkeypatch.setattr(devices, "STOP_SECONDS", 0.01)
    go = threading.Event()
    backend = Backend([FakeDevice()])
    backend.open = lambda: go.wait() and []  # type: ignore[method-assign]
    gpus = gather(backend)
    gpus.start(patience_seconds=0.01)
    assert not gpus.is_settled
    gpus.stop()
    go.set()


def test_nothing_is_looked_for_after_the_stop(gather: Gather) -> None:
    """A thread that went on would ask a driver that is being unloaded."""
    gpus = gather(Backend(GpuError("DRIVER_NOT_LOADED")))
    gpus.start(patience_seconds=30)
    gpus.stop()
    gpus._thread.join(30)
    assert not gpus._thread.is_alive()
    assert gpus.failure == "DRIVER_NOT_LOADED"

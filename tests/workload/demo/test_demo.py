"""The demo: a recording is whole and honest, and comes back as it was recorded, in Prometheus and in pictures."""

from __future__ import annotations

import csv
import json
import lzma
import re
import shutil
import socket
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer import Typer
from typer.testing import CliRunner

from workload.commands.demo import demo
from workload.demo.figures import draw_run
from workload.demo.recording import SERIES, Recording, find_recordings
from workload.demo.server import links, serve
from workload.errors import UsageError
from workload.experiment import Experiment
from workload.experiments import EXPERIMENTS
from workload.paths import asset, cache_dir
from workload.promql.selectors import selector
from workload.record.results import Measured
from workload.services.process import free_port
from workload.services.prometheus_binary import PrometheusBinary, find_prometheus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workload.charts.drawing import Drawing
    from workload.services.prometheus import PrometheusClient

FIXTURE = asset("tests/fixtures/reference-run")
RECORDINGS = find_recordings(FIXTURE)
WITH_RUNS = [recording for recording in RECORDINGS if recording.runs]
RUNS = [(recording, run) for recording in WITH_RUNS for run in recording.runs]
SCRAPE_SECONDS = 1.0
ON_GPU = [(recording, run) for recording, run in RUNS if "NVIDIA" in recording.label]
MAX_BYTES = 16 * 2**20
HOST_PATH = re.compile(r"/(?:tmp|root|home|work|var|opt)/")


def text_of(path: Path) -> str:
    """Return a file's text, unpacked if it is packed."""
    data = path.read_bytes()
    return (lzma.decompress(data) if path.suffix == ".xz" else data).decode(errors="replace")


def windows_of(recording: Recording, run: str) -> list[Measured]:
    """Return the windows of a recorded run."""
    manifest = json.loads((recording.folder / "runs" / run / "manifest.json").read_text())
    return [Measured.from_manifest(row) for row in manifest["measured"]]


def sampled(recording: Recording, run: str) -> list[float]:
    """Return the instants in the raw log of a run's GPU sampler, in seconds since the epoch."""
    logs = sorted((recording.folder / "runs" / run / "nvml").glob("*.csv.xz"))
    rows = [row for path in logs for row in csv.DictReader(text_of(path).splitlines())]
    return sorted(int(row["ts_ms"]) / 1000 for row in rows if row["mem_used_bytes"])


@pytest.fixture(scope="module")
def binary() -> PrometheusBinary:
    """The programs, found as the project finds them."""
    return find_prometheus(cache_dir())


@pytest.fixture(scope="module")
def loaded(binary: PrometheusBinary, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusClient]:
    """A Prometheus with the shipped recordings."""
    with serve(RECORDINGS, binary, tmp_path_factory.mktemp("demo"), free_port()) as client:
        yield client


def test_the_shipped_recordings_are_small_and_name_no_path() -> None:
    """They travel with every checkout, and the name of a recording host is private."""
    files = [path for path in FIXTURE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MAX_BYTES
    assert [str(path) for path in files if HOST_PATH.search(text_of(path))] == []


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.folder.name)
def test_a_label_says_whether_there_was_a_gpu(recording: Recording) -> None:
    """A CPU engine's figures under an H200's name would be a lie that every copied picture repeats."""
    gpus = json.loads((recording.folder / "manifest.json").read_text())["host"]["gpus"]
    assert gpus[0].partition(",")[0] in recording.label if gpus else "no GPU" in recording.label


@pytest.mark.prometheus
@pytest.mark.parametrize(("recording", "run"), RUNS, ids=[run for _, run in RUNS])
def test_every_picture_bears_the_label(
    loaded: PrometheusClient, recording: Recording, run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture is copied without its page."""
    seen: list[Drawing] = []

    def note(drawing: Drawing) -> list[Path]:
        seen.append(drawing)
        return []

    name = json.loads((recording.folder / "manifest.json").read_text())["runs"][run]["experiment"]
    experiment = EXPERIMENTS[name]
    assert isinstance(experiment, Experiment)
    monkeypatch.setitem(EXPERIMENTS, name, replace(experiment, draw=note))
    _, finished = draw_run(recording, run, loaded, tmp_path)
    assert seen[0].footer.startswith(f"{recording.label}\nrun {run}; ")
    assert seen[0].summary["accounting"] == [dict(part.accounting) for part in windows_of(recording, run)]
    assert recording.label in (finished.bundle / "report.html").read_text()


@pytest.mark.prometheus
@pytest.mark.parametrize(("recording", "run"), RUNS, ids=[run for _, run in RUNS])
def test_counters_come_back_to_the_token(loaded: PrometheusClient, recording: Recording, run: str) -> None:
    """What was read at the ends of each window while it was recorded must be read again from what was kept."""
    experiment = json.loads((recording.folder / "manifest.json").read_text())["runs"][run]["experiment"]
    for part in windows_of(recording, run):
        labels = {"run": run, "experiment": experiment, "arm": part.window.arm, "job": "vllm"}
        for metric, recorded in part.counters.items():
            if recorded is not None:
                assert loaded.counter_delta(selector(metric, labels), part.window.start, part.window.end) == recorded


@pytest.mark.prometheus
@pytest.mark.parametrize(("recording", "run"), ON_GPU, ids=[run for _, run in ON_GPU])
def test_every_sample_of_a_gpu_is_loaded(loaded: PrometheusClient, recording: Recording, run: str) -> None:
    """GPUs were sampled every 10 ms; a store that thinned them would show another GPU."""
    logged = sampled(recording, run)
    for part in windows_of(recording, run):
        start, end = part.window.start, part.window.end
        found = loaded.raw(selector("nvml_timeline_memory_used_bytes", {"run": run}), start, end)
        times = [at for series in found for at in series.times]
        assert times == pytest.approx([at for at in logged if start < at <= times[-1]], abs=1e-6)
        assert end - times[-1] < SCRAPE_SECONDS


@pytest.mark.prometheus
def test_the_command_draws_and_says_where_to_look(
    binary: PrometheusBinary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a folder to pictures, a report and the address of a Prometheus: all that a newcomer does is wait."""
    source, run = RUNS[0]
    copy = tmp_path / "recording"
    shutil.copytree(source.folder, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "runs": {run: manifest["runs"][run]}}))
    monkeypatch.setenv("HOP2RAG_PROMETHEUS", str(binary.prometheus.parent))
    monkeypatch.setenv("HOP2RAG_CACHE", str(tmp_path / "cache"))
    app = Typer()
    app.command()(demo)
    port = free_port()
    flags = ["--recording", str(copy), "--results", str(tmp_path / "results"), "--prometheus-port", str(port), "--once"]
    done = CliRunner().invoke(app, flags, catch_exceptions=False)
    assert done.exit_code == 0
    assert source.label in done.output
    assert f"http://127.0.0.1:{port}/graph?" in done.output
    pictures = list((tmp_path / "results").rglob("*.png"))
    assert pictures
    assert all(picture.stat().st_size > 10_000 for picture in pictures)


def test_links_hold_the_recorded_time() -> None:
    """The samples lie in the past: a page that opens on the last hour is empty."""
    text = links(replace(RECORDINGS[0], start=1_700_000_000.0, end=1_700_000_090.5), "http://127.0.0.1:1")
    assert "from=1700000000000&to=1700000090500" in text
    assert "g0.range_input=90s&g0.end_input=2023-11-14+22%3A14%3A50" in text


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"runs": [], "label": "x", "start": 1, "end": 2}', '{"runs": 1}'])
def test_a_damaged_manifest_is_named(tmp_path: Path, text: str) -> None:
    """The user may have unpacked another archive into the folder."""
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UsageError, match=r"manifest\.json is not the manifest of a recording"):
        find_recordings(tmp_path)


def test_an_empty_folder_is_no_recording(tmp_path: Path) -> None:
    """A typing error in --recording must not start anything."""
    with pytest.raises(UsageError, match="no recording in"):
        find_recordings(tmp_path)


@pytest.mark.prometheus
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "missing or damaged"),
        (lzma.compress(b"x" * 1000)[:50], "missing or damaged"),
        (b"no archive", "missing or damaged"),
        (lzma.compress(b"a{b=1} 1\n# EOF\n"), "cannot be loaded"),
    ],
)
def test_damaged_series_are_named(binary: PrometheusBinary, tmp_path: Path, data: bytes | None, words: str) -> None:
    """A transfer that broke off must not end in a traceback, nor in a Prometheus with half of the samples."""
    recording = Recording(tmp_path / "recording", "label", 1.0, 2.0)
    recording.folder.mkdir()
    if data is not None:
        (recording.folder / SERIES).write_bytes(data)
    with pytest.raises(UsageError, match=words), serve([recording], binary, tmp_path / "demo", free_port()):
        pytest.fail("it was served")


def test_a_taken_port_is_refused(tmp_path: Path) -> None:
    """Another demo, or somebody's Prometheus, must not be shown as this recording."""
    unused = PrometheusBinary(Path("prometheus"), Path("promtool"), (2, 42, 0))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"{port} is in use"), serve([], unused, tmp_path, port):
            pytest.fail("it was served")

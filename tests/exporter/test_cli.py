"""The command line: every flag explained, every mistake a line and a code."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from exporter.cli import main, parse_address, parse_duration
from exporter.errors import UsageError
from exporter.service import own_version

if TYPE_CHECKING:
    from collections.abc import Callable


def test_help_explains_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` is the manual that is at hand at three in the morning."""
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for flag in ("--web.listen-address", "--no-collector.pcie", "--nvml.replay-file", "--require-gpu", "--version"):
        assert flag in text
    for option in re.split(r"\n  (?=--)", text.partition("Options:")[2])[1:]:
        assert len(option.split()) > 3, f"not explained: {option}"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """A bug report starts with it."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"hop2rag-exporter {own_version()}\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--no-such-flag"], "No such option"),
        (["--web.listen-address", "nowhere"], "is not an address"),
        (["--nvml.sample-interval", "1us"], "--nvml.sample-interval 1us is not allowed. Use 0.005s to 1s"),
        (["--timeline.window", "forever"], "--timeline.window forever is not allowed"),
        (["--nvml.replay-file", "none.csv"], "none.csv cannot be read"),
        (["--web.config.file", "none.yml"], "none.yml cannot be read"),
        (["--log.level", "loud"], "not one of"),
    ],
)
def test_a_wrong_flag_is_one_line_and_a_code(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is refused before anything starts; what main raises instead would be a traceback."""
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert reason in " ".join(printed.err.split())


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["--no-such-flag"], 2, "No such option"),
        (["--web.listen-address", "192.0.2.1:9400"], 2, "Pick another with --web.listen-address"),
        (["--raw-log.directory", "/proc/none"], 5, "Pick another with --raw-log.directory"),
        pytest.param(
            ["--require-gpu", "--web.listen-address", "127.0.0.1:0"],
            3,
            "omit --require-gpu",
            marks=pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this host has a GPU"),
        ),
    ],
)
def test_a_start_that_fails_is_one_line_and_a_code(arguments: list[str], code: int, reason: str) -> None:
    """Scripts read the code, people the line; neither wants a traceback."""
    end = subprocess.run(
        [sys.executable, "-m", "exporter.cli", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert (end.returncode, end.stdout) == (code, "")
    assert reason in " ".join(end.stderr.split())
    assert "Traceback" not in end.stderr


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9400", ("127.0.0.1", 9400)),
        ("[::1]:0", ("::1", 0)),
        (":9400", ("0.0.0.0", 9400)),
        ("localhost:65535", ("localhost", 65535)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    """The forms that Prometheus's own exporters take."""
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "9400", "host:", "host:x", "host:70000", "::1:9400", "host:-1"])
def test_addresses_without_sense_are_refused(text: str) -> None:
    """A misread address would listen on the wrong interface, or on all."""
    with pytest.raises(UsageError, match="is not an address"):
        parse_address(text)


def test_durations() -> None:
    """Prometheus's notation, within the range that makes sense."""
    assert parse_duration("10ms", "--x", 0.005, 1) == pytest.approx(0.010)
    assert parse_duration("0.5s", "--x", 0.005, 1) == 0.5
    for text in ("10", "ms", "-1s", "1h", "4ms", "2s", "nan"):
        with pytest.raises(UsageError, match="--x"):
            parse_duration(text, "--x", 0.005, 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(
    tmp_path: Path, recording: Path, wait_until: Callable[..., None], number: signal.Signals
) -> None:
    """A container is stopped with SIGTERM, a terminal with Ctrl-C; both keep the last second of the raw log."""
    command = [sys.executable, "-m", "exporter.cli", "--web.listen-address", "127.0.0.1:0"]
    command += ["--nvml.replay-file", str(recording), "--raw-log.directory", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "Serving a recording on 127.0.0.1:" in line
        url = f"http://{line.split()[-1].rstrip('.')}"
        assert httpx.get(f"{url}/-/healthy").status_code == 200
        wait_until(lambda: httpx.get(f"{url}/metrics/timeline").text.count("gpu=") > 12)
        process.send_signal(number)
        assert process.wait(60) == 0
        assert "Traceback" not in process.stderr.read()
    (log,) = tmp_path.iterdir()
    assert len(log.read_text().splitlines()) > 10


HANGS = {
    "collector": "import psutil; psutil.disk_usage = forever",
    "driver": "from exporter.gpu.replay import ReplayDevice; ReplayDevice.utilization = ReplayDevice.status = forever",
    "raw log": "from exporter.gpu.rawlog_files import RawLogFiles; RawLogFiles.append = forever",
    "everything": "from exporter.service import Exporter; Exporter.stop = forever",
}


@pytest.mark.parametrize("place", HANGS)
def test_a_signal_ends_it_whatever_hangs(tmp_path: Path, recording: Path, place: str) -> None:
    """A container that does not end is killed, and a unit waits 90 s for it: nothing that hangs is worth that."""
    script = (
        "import sys, threading\n"
        "def forever(*_): threading.Event().wait()\n"
        f"{HANGS[place]}\n"
        "from exporter import cli\n"
        "cli.EXIT_SECONDS = 2.5\n"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, "--web.listen-address", "127.0.0.1:0", "--raw-log.directory"]
    command += [str(tmp_path), "--nvml.replay-file", str(recording), "--collector.filesystem", f"results={tmp_path}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        url = f"http://{process.stderr.readline().split()[-1].rstrip('.')}"
        for accepts in ("gzip", "identity", "gzip"):
            assert httpx.get(f"{url}/metrics", headers={"Accept-Encoding": accepts}).status_code == 200
        assert "gpu=" in httpx.get(f"{url}/metrics/timeline").text
        assert httpx.get(f"{url}/-/ready").status_code == 200
        process.send_signal(signal.SIGTERM)
        said = process.stderr.read()  # until it ends
        assert process.wait() == (1 if place == "everything" else 0), said
    assert "Traceback" not in said
    assert ("still hangs" in said) == (place == "everything")


def test_the_exporter_loads_nothing_of_the_agent() -> None:
    """It runs on every GPU node: it must stay small, and start without a model library or a driver."""
    script = (
        "import sys, exporter.cli, exporter.agent.instruments\n"
        "heavy = {'torch', 'langgraph', 'chromadb', 'transformers', 'numpy', 'workload', 'pynvml', 'openai'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    end = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert end.stdout == "[]\n"

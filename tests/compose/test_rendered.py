"""The configuration for containers: fresh, and accepted by the programs that read it."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from workload.compose.configs import CHANGES, FOLDER, contents, render
from workload.errors import MissingPartError, UsageError
from workload.paths import cache_dir
from workload.services.prometheus_binary import find_alertmanager, find_prometheus

if TYPE_CHECKING:
    from pathlib import Path

ALERTMANAGER = FOLDER / "compose" / "alertmanager.yml"
REMOTE_WRITE = re.compile(r"^# remote_write:\n(?:#.*\n)+", re.MULTILINE)


def amtool(*arguments: str | Path) -> str:
    """Run amtool and return what it printed; fail the test when it fails."""
    try:
        program = find_alertmanager(cache_dir()).amtool
    except MissingPartError as error:
        pytest.skip(str(error))
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_config(file: Path) -> str:
    """Run `promtool check config` and return what it printed; fail the test when it fails."""
    promtool = find_prometheus(cache_dir()).promtool
    done = subprocess.run([promtool, "check", "config", file], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_committed_files_are_fresh() -> None:
    """Run `hop2rag compose configs` and commit: what a container reads must be what a host does."""
    assert {path.name: path.read_text() for path in (FOLDER / "compose").iterdir()} == contents()


def test_nothing_points_at_a_containers_own_loopback() -> None:
    """Inside a container 127.0.0.1 is the container itself."""
    for text in contents().values():
        assert "127.0.0.1" not in str(yaml.safe_load(text))


def test_only_addresses_and_paths_differ() -> None:
    """A scrape rule that applied on hosts only would produce two kinds of results."""
    for name, changes in CHANGES.items():
        text = contents()[name].partition("\n")[2]
        for old, new in changes.items():
            text = text.replace(new, old)
        assert text == (FOLDER / name).read_text()


def test_a_source_that_moved_on_is_noticed(tmp_path: Path) -> None:
    """A replacement that finds nothing would leave the host's address in the container's file."""
    for name in CHANGES:
        (tmp_path / name).write_text((FOLDER / name).read_text().replace("127.0.0.1", "localhost"))
    with pytest.raises(UsageError, match="no longer contains"):
        render(tmp_path)


@pytest.mark.prometheus
@pytest.mark.parametrize("folder", [FOLDER, FOLDER / "compose"], ids=["host", "compose"])
def test_prometheus_accepts_both(folder: Path) -> None:
    """The rule files are found relative to the configuration, and are checked with it."""
    assert check_config(folder / "prometheus.yml").count("SUCCESS") > 5


@pytest.mark.prometheus
def test_the_remote_write_block_works_when_it_is_uncommented(tmp_path: Path) -> None:
    """No test runs a comment, and a user who needs it needs it to be right."""
    text = (FOLDER / "compose" / "prometheus.yml").read_text()
    (block,) = REMOTE_WRITE.findall(text)
    plain = "".join(line.removeprefix("# ") for line in block.splitlines(keepends=True))
    path = tmp_path / "prometheus.yml"
    path.write_text(f"global: {{external_labels: {{cluster: a}}}}\n{plain}")
    check_config(path)
    assert yaml.safe_load(plain)["remote_write"][0]["url"].startswith("http://mimir")
    assert plain.count("# url:") == 2


@pytest.mark.prometheus
def test_alertmanager_accepts_the_one_for_containers() -> None:
    """The tests of the alerts check its source."""
    assert "SUCCESS" in amtool("check-config", ALERTMANAGER)


@pytest.mark.prometheus
@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        ({"alertname": "VllmDown", "run": "live", "experiment": "load"}, ["runner"]),
        ({"alertname": "VllmDown", "run": "r", "experiment": "vllm-metrics"}, ["runner"]),
        ({"alertname": "VllmDown", "run": "r", "experiment": "soak"}, ["soak", "runner"]),
        ({"alertname": "DiskWritesFailing"}, ["soak", "runner"]),
        ({"alertname": "Hop2RagWatchdog"}, ["runner-heartbeat"]),
    ],
)
def test_a_soak_is_called_for_what_concerns_it(labels: dict[str, str], receivers: list[str]) -> None:
    """While none runs its name resolves to nothing: each alert sent there is two lines of Alertmanager's log."""
    words = (f"{name}={value}" for name, value in labels.items())
    found = amtool("config", "routes", "test", f"--config.file={ALERTMANAGER}", *words)
    assert found.strip().split(",") == receivers

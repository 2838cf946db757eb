"""Row 20: hostile input from the command line: refused with the field and what is allowed, and nothing is written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workload.services.test_prometheus_client import client_of, result
from workload.cli import run_command_line
from workload.promql.selectors import selector
from workload.services.prometheus import MAX_POINTS, NoDataError
from workload.services.targets import ArmLabels, TargetFiles

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = {
    "a run's name that climbs": ("run", "latency", "--resume", "../../etc/x"),
    "a run's name with a newline": ("run", "latency", "--resume", "x\ny"),
    "a replay that climbs": ("run", "latency", "--replay", "../x"),
    "prompts of a run that climbs": ("run", "kv-cache", "--from-run", ".."),
    "a collection that climbs": ("run", "latency", "--collection", "../x"),
    "a suite that climbs": ("suite", "--resume", "../../x"),
    "a file for an endpoint": ("run", "latency", "--vllm-endpoint", "file:///etc/passwd"),
    "a metadata service": ("run", "latency", "--vllm-endpoint", "http://169.254.169.254/latest"),
    "the same in hexadecimal": ("run", "latency", "--vllm-endpoint", "http://0xA9FEA9FE/"),
    "the same in IPv6": ("run", "latency", "--vllm-endpoint", "http://[::ffff:169.254.169.254]/"),
    "credentials": ("run", "latency", "--vllm-endpoint", "http://user:hunter2@127.0.0.1:8000"),
    "a key in a query": ("run", "latency", "--vllm-endpoint", "http://127.0.0.1:8000/?key=hunter2"),
    "no number of questions": ("run", "latency", "--limit", "0"),
    "too many questions": ("run", "latency", "--limit", "1000000000"),
    "a negative number": ("run", "latency", "--max-hops", "-1"),
    "a rate that is no number": ("run", "concurrency", "--rate", "nan"),
    "a rate without end": ("run", "concurrency", "--rate", "1e9"),
    "a concurrency that is no number": ("run", "latency", "--concurrency", "1,x"),
    "a time-out without end": ("run", "latency", "--request-timeout", "inf"),
    "a port that is none": ("run", "latency", "--engine-port", "70000"),
    "an experiment that is none": ("run", "../latency"),
    "a layout that is none": ("run", "latency", "--layout", "sideways"),
    "a flag that is none": ("run", "latency", "--limti", "3"),
}


@pytest.mark.parametrize("arguments", HOSTILE.values(), ids=HOSTILE)
def test_row_20_hostile_arguments_are_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    """Exit code 2 and one line on stderr; no folder, no engine, no password in the message."""
    monkeypatch.setenv("HOP2RAG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOP2RAG_RESULTS", str(tmp_path / "results"))
    monkeypatch.chdir(tmp_path)
    assert run_command_line(list(arguments)) == 2
    printed = capsys.readouterr()
    message = printed.err.strip()  # where bars were to be drawn, their line is left empty
    assert message.startswith("Error: ")
    assert "\n" not in message
    assert "hunter2" not in printed.err + printed.out
    assert list(tmp_path.rglob("*")) == []


@settings(max_examples=500)
@given(st.text(max_size=40))
def test_row_20_no_label_leaves_its_quotes(value: str) -> None:
    """A value is data; one that ends the selector would ask Prometheus for something else."""
    text = selector("up", {"arm": value})
    assert text.startswith('up{arm="')
    inner = text.removeprefix('up{arm="').removesuffix('"}')
    assert "\n" not in inner
    assert '"' not in inner.replace("\\\\", "").replace('\\"', "")


@settings(max_examples=500)
@given(st.text(max_size=70))
def test_row_20_no_name_is_a_label_and_no_address_a_target_unless_plain(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    """Target files are read by Prometheus: a name or an address in them is plain, or nothing is written."""
    folder = tmp_path_factory.getbasetemp() / "targets"
    try:
        labels = ArmLabels(text, "latency", "base")
        TargetFiles(folder).write(labels, exporter=[text])
    except Exception as error:  # noqa: BLE001 - the type is what is checked
        assert type(error).__name__ == "UsageError"  # noqa: PT017
        return
    (group,) = json.loads((folder / "exporter.json").read_text())
    assert group["targets"] == [text]


@settings(max_examples=500)
@given(st.integers(0, 200_000), st.integers(1, 50))
def test_row_20_a_long_range_is_asked_for_in_pieces(seconds: int, step: int) -> None:
    """Prometheus refuses more than 11,000 points; every instant of the grid is asked for once, in order."""
    client, adapter = client_of(lambda *_: result("matrix", []))
    with pytest.raises(NoDataError):
        client.query_range("up", 0, seconds, step)
    asked = []
    for form in adapter.forms:
        start, end, width = (round(float(form[name])) for name in ("start", "end", "step"))
        piece = range(start, end + 1, width)
        assert len(piece) <= MAX_POINTS
        asked += piece
    assert asked == list(range(0, seconds + 1, step))

"""What a report asks after the load must be what was recorded, whole, and nothing where nothing was."""

from __future__ import annotations

import csv
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from exporter.gpu.latest import MemorySample
from exporter.gpu.rawlog_files import HEADER, encode_row
from exporter.gpu.readings import Utilization
from tests.stubs.load import ENGINE_PID, START, Rows, run_of
from workload.corpus.document import Document, retriever
from workload.errors import UsageError
from workload.record.evidence import read_raw_log
from workload.record.results import RunData, evidence_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray


def test_the_raw_log_is_read_as_the_exporter_writes_it(tmp_path: Path) -> None:
    """Two packages share this format and no code; a column that moves must not turn power into memory."""
    data = run_of(one(), tmp_path, pids_by_gpu={"0": [ENGINE_PID], "1:3": [ENGINE_PID]})
    evidence = evidence_of(data)
    folder = evidence.bundle.folder / "nvml"
    folder.mkdir()
    now = round(1000 * START)
    rows = [
        MemorySample(now, 5 * 2**30, Utilization(power_watts=300.0, utilization=0.25), None),
        MemorySample(now + 10, 6 * 2**30, None, None),
    ]
    for gpu in ("0", "1:3"):
        text = HEADER + "".join(encode_row(gpu, row) for row in rows)
        (folder / f"nvml_x_{gpu[0]}.csv").write_text(text)
    (folder / "nvml_x_9.csv").write_text(HEADER + encode_row("0", MemorySample(now - 10_000, 1, None, None)))
    found = evidence.gpu_samples(data.measured[0])
    assert list(found) == ["0", "1:3"]
    assert found["0"].used.tolist() == [5 * 2**30, 6 * 2**30]  # what lies before the window is not of it
    assert found["0"].times.tolist() == pytest.approx([START, START + 0.01])
    assert found["0"].utilization[0] == 0.25
    assert np.isnan(found["0"].utilization[1])


def test_the_raw_log_is_read_once_and_without_a_torn_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsed anew for each of 28 windows of eight GPUs it takes minutes; a killed exporter leaves half a line."""
    data = run_of(one(), tmp_path)
    evidence = evidence_of(data)
    folder = evidence.bundle.folder / "nvml"
    folder.mkdir()
    line = encode_row("0", MemorySample(round(1000 * START), 5 * 2**30, None, None))
    (folder / "nvml_x_0.csv").write_text(HEADER + line + line[:-8])
    read: list[Path] = []
    monkeypatch.setattr(
        "workload.record.evidence.read_raw_log", lambda path: (read.append(path), read_raw_log(path))[1]
    )
    for _ in range(3):
        assert evidence.gpu_samples(data.measured[0])["0"].used.tolist() == [5 * 2**30]
    assert len(read) == 1


@pytest.mark.parametrize(
    ("pids", "served"),
    [
        ({"0": [1], "1": [1], "2": [], "3": [ENGINE_PID]}, ["3"]),
        ({"1": [1, ENGINE_PID], "3": [ENGINE_PID - 1]}, ["1", "3"]),
        ({"0": [1]}, []),
        ({}, []),
    ],
    ids=["GPU 3", "tensor parallel, beside another's process", "another's only", "no processes told"],
)
def test_of_several_gpus_those_count_that_served_the_engine(
    tmp_path: Path, pids: dict[str, list[int]], served: list[str]
) -> None:
    """An engine on GPU 3 drew the idle card 0; where the card is unknown, none is named."""
    data = run_of(one(), tmp_path, pids_by_gpu=pids)
    evidence, (part,) = evidence_of(data), data.measured
    folder = evidence.bundle.folder / "nvml"
    folder.mkdir()
    sample = MemorySample(round(1000 * START), 5 * 2**30, None, None)
    (folder / "nvml_x.csv").write_text(HEADER + "".join(encode_row(gpu, sample) for gpu in "0123"))
    assert list(evidence.gpu_samples(part)) == served
    assert list(evidence.seen_gpus(part.window)) == ["0", "1", "2", "3"]
    (folder / "nvml_x.csv").write_text(HEADER + encode_row("3", sample))
    alone = replace(evidence)
    assert list(alone.gpu_samples(part)) == ["3"]


@pytest.mark.parametrize(
    "row",
    [
        {"ts_ms": "now"},
        {"ts_ms": "nan"},
        {"mem_used_bytes": "-1"},
        {"mem_used_bytes": "inf"},
        {"mem_used_bytes": "nan"},
        {"sm_util_pct": "101"},
        {"sm_util_pct": "-inf"},
        {"gpu": ""},
    ],
    ids=str,
)
def test_a_damaged_raw_log_is_named(tmp_path: Path, row: dict[str, str]) -> None:
    """Half a figure is worse than none, and a traceback says nothing; no number that is none moves a peak."""
    path, sound = tmp_path / "nvml_x.csv", {"ts_ms": "1", "mem_used_bytes": "5", "sm_util_pct": "7", "gpu": "0"}
    with path.open("w", newline="") as stream:
        rows = csv.DictWriter(stream, HEADER.strip().split(","), lineterminator="\n", restval="")
        rows.writeheader()
        rows.writerows([sound, {**sound, **row}])
    with pytest.raises(UsageError, match=r"nvml_x\.csv is damaged"):
        list(read_raw_log(path))


def one() -> Rows:
    """Return the load of one question."""
    rows = Rows()
    rows.ask()
    return rows


def test_what_is_absent_is_empty_and_never_zero(tmp_path: Path) -> None:
    """A run without a GPU, without texts and with an old vLLM has no values to show."""
    data = run_of(one(), tmp_path)
    evidence, window = evidence_of(data), data.measured[0].window
    assert evidence.gpu_samples(data.measured[0]) == {}
    assert evidence.stored("vllm:nothing", window) == []
    assert evidence.increases("vllm:nothing", window) == []
    assert evidence.texts == {}
    with pytest.raises(ValueError, match="only a journal"):
        evidence_of(RunData(measured=[], questions=[], calls=[], visits=[], stages=[]))


def test_texts_come_back_by_call(tmp_path: Path) -> None:
    """Given to the wrong call, a draft would be compared with another question's documents."""
    texts = evidence_of(run_of(one(), tmp_path, replies=["first", "second"])).texts
    assert {call: text.reply for call, text in texts.items()} == {1: "first", 2: "second"}
    assert texts[1].messages[0]["content"].startswith("Question: Who?")


def test_selectors_are_of_this_run_and_arm(tmp_path: Path) -> None:
    """Prometheus keeps many runs; without these labels one would be credited with another's memory."""
    data = run_of(one(), tmp_path)
    asked = evidence_of(data).selector("nvml_up", data.measured[0].window, job="exporter")
    for part in ('phase!="warmup"', 'run="20250131-235959-x"', 'experiment="x"', 'arm="base"', 'job="exporter"'):
        assert part in asked


def test_retrieval_is_embedded_one_query_at_a_time() -> None:
    """In a batch with others a text is padded, and its vector may differ in the last bits: another code path."""
    asked: list[list[str]] = []

    class Embedder:
        name, dimension = "stub", 2

        def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
            asked.append(list(texts))
            return np.ones((len(texts), 2), dtype=np.float32)

    class Store:
        def search(self, vector: NDArray[np.float32], k: int) -> list[Document]:
            assert vector.shape == (2,)
            return [Document(str(number), "", "", (), 0.0) for number in range(k)]

    assert retriever(Embedder(), Store(), 3)("a query") == {"0", "1", "2"}
    assert asked == [["a query"]]

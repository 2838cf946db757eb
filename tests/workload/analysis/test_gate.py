"""The gate's verdict: exact figures hold on any machine, times only where nothing disturbed them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from tests.stubs.recorded import SETTINGS, record_run
from workload.analysis.gate import Judgement, judge, verdict_of
from workload.record.bundle import MANIFEST
from workload.record.runs import open_recorded
from workload.report.gate import junit, markdown, rows_of, sentences

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = {f"q{number}": 1.0 + number / 10 for number in range(16)}


def judged(folder: Path, slower: float = 1.0, **parts: Any) -> Judgement:
    """Return the verdict on a run that took `slower` times as long."""
    times = {name: slower * value for name, value in SECONDS.items()}
    record_run(folder, "reference", SECONDS, settings=SETTINGS.changed(replay="first"))
    record_run(folder, "now", times, **{"settings": SETTINGS.changed(replay="first"), **parts})
    return judge(open_recorded(folder, "reference"), open_recorded(folder, "now"), "base", 0.03)


def crowd(folder: Path, run: str) -> None:
    """Write down that other programs took half of a full host."""
    path = folder / "runs" / run / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["measured"][0]["accounting"] |= {"host_busy": 0.99, "host_others": 0.5}
    path.write_text(json.dumps(manifest))


def test_the_same_work_in_the_same_time_passes(tmp_path: Path) -> None:
    """A gate that stops every merge is switched off."""
    found = judged(tmp_path)
    assert found["verdict"] == "pass"
    assert {row["verdict"] for row in (*found["exact"], *found["times"])} == {"pass"}
    assert [row["detectable"] for row in found["times"]] == pytest.approx([0.03] * 3)


def test_a_slowdown_fails(tmp_path: Path) -> None:
    """Each question is compared with itself, so five per cent show."""
    found = judged(tmp_path, 1.05)
    assert found["verdict"] == "fail"
    assert {row["verdict"] for row in found["times"]} == {"fail"}
    assert {row["verdict"] for row in found["exact"]} == {"pass"}


def test_a_token_more_to_compute_fails_on_any_machine(tmp_path: Path) -> None:
    """The cache serves less, and no host's speed explains that."""
    found = judged(tmp_path, cached_tokens=63)
    assert found["verdict"] == "fail"
    assert {row["figure"] for row in found["exact"] if row["verdict"] == "fail"} == {
        "uncached prefill tokens",
        "prefix cache hit rate",
    }


def test_hits_that_are_no_longer_reported_do_not_pass(tmp_path: Path) -> None:
    """What is absent is not as good as before; where nothing was ever reported, nothing can be lost."""
    found = judged(tmp_path / "lost", cached_tokens=None)
    assert found["verdict"] == "undecided"
    assert [row["verdict"] for row in found["exact"]] == ["pass", "pass", "undecided", "undecided"]
    folder = tmp_path / "never"
    for run in ("reference", "now"):
        record_run(folder, run, SECONDS, settings=SETTINGS.changed(replay="first"), cached_tokens=None)
    never = judge(open_recorded(folder, "reference"), open_recorded(folder, "now"), "base", 0.03)
    assert {row["verdict"] for row in never["exact"]} == {"pass"}


def test_a_busy_host_leaves_times_undecided(tmp_path: Path) -> None:
    """Also in the reference: then it is the reference that is too slow."""
    for run in ("reference", "now"):
        folder = tmp_path / run
        judged(folder, 1.05)
        crowd(folder, run)
        found = judge(open_recorded(folder, "reference"), open_recorded(folder, "now"), "base", 0.03)
        assert found["verdict"] == "undecided"
        assert found["why"][0].startswith("Other programs used 50.0%")


def test_another_system_leaves_times_undecided(tmp_path: Path) -> None:
    """Fewer documents are less work, and no gain."""
    found = judged(tmp_path, settings=SETTINGS.changed(replay="first", k=5))
    assert found["verdict"] == "undecided"
    assert found["why"] == ["k differs: 10 and 5"]


def test_a_question_that_is_no_longer_answered_fails(tmp_path: Path) -> None:
    """Whoever answers less is faster."""
    record_run(tmp_path, "reference", SECONDS, settings=SETTINGS.changed(replay="first"))
    less = {name: value for name, value in SECONDS.items() if name != "q3"}
    record_run(tmp_path, "now", less, settings=SETTINGS.changed(replay="first"))
    found = judge(open_recorded(tmp_path, "reference"), open_recorded(tmp_path, "now"), "base", 0.03)
    assert found["verdict"] == "fail"
    assert found["exact"][0]["found"] == 15.0


def test_noise_texts_do_not_bind_the_cache(tmp_path: Path) -> None:
    """With random weights a replay computes other texts than the live reference, so it may find less of its own log."""
    record_run(tmp_path, "reference", SECONDS)
    record_run(tmp_path, "now", SECONDS, cached_tokens=48)
    found = judge(open_recorded(tmp_path, "reference"), open_recorded(tmp_path, "now"), "base", 0.03)
    assert found["verdict"] == "undecided"


@pytest.mark.parametrize(
    ("exact", "times", "why", "verdict"),
    [
        (["pass"], ["pass"], [], "pass"),
        (["pass"], ["pass", "undecided"], [], "undecided"),
        (["pass"], ["fail", "undecided"], [], "fail"),
        (["pass"], ["fail"], ["busy"], "undecided"),
        (["fail"], ["pass"], ["busy"], "fail"),
    ],
)
def test_the_verdict_follows_from_its_figures(exact: Any, times: Any, why: Any, verdict: str) -> None:
    """What is exact comes first; what is undecided never passes."""
    assert verdict_of(exact, times, why) == verdict


def test_a_ci_server_gets_a_case_for_each_figure(tmp_path: Path) -> None:
    """A server that shows the XML must show which figure failed, and a page must say the same."""
    found = judged(tmp_path, 1.05)
    suite = ET.fromstring(junit(found))  # noqa: S314 - our own text
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("7", "3", "0")
    failed = [case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None]
    assert failed == ["time to first token, s", "end to end, s", "control: decode time per token, s"]
    page = markdown(found)
    assert page.startswith("## hop2rag gate: fail")
    assert all(sentence in page for sentence in sentences(found))
    columns, rows = rows_of(found)
    assert page.count("\n|") == len(rows) + 2
    assert {len(row) for row in rows} == {len(columns)}

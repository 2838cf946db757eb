"""The page that a run leaves behind: the findings come first, with the quality of the answers."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from workload.analysis.wording import Bookkeeping, Caveat
from workload.charts.canvas import name, save, sheet
from workload.experiments import EXPERIMENTS
from workload.record.results import Finished
from workload.report.headlines import print_finished
from workload.report.page import grouped, marks_of, render, section_of, verdicts_of
from workload.report.pictures import picture_of

if TYPE_CHECKING:
    from pathlib import Path

    from workload.report.page import Section

SILENT: Any = SimpleNamespace(verdicts=lambda _: [])
QUIET: Any = SimpleNamespace(name="x", title="x", columns=("",), headline=lambda _: [], verdicts=lambda _: [])
SCORES = {"questions": 3, "answer_em": 0.0, "answer_f1": 0.25, "facts_em": 0.0, "facts_f1": 0.5, "joint_f1": 0.125}


def section(run: str, folder: Path) -> Section:
    """Return the section of a run of `latency` in which nothing but the answers is known."""
    (folder / "manifest.json").write_text(json.dumps({"run": run}))
    summary = {
        "questions": 3,
        "answered": 3,
        "latency_seconds": [],
        "by_node": {"decide": {"share": 0.6, "median": 1.5, "n": 3}},
        "hops_by_type": {},
        "endings": {},
        "context_by_hop": {},
        "quality": {"base": SCORES},
    }
    return section_of(EXPERIMENTS["latency"], Finished(run, summary, (), folder))


def test_every_section_says_how_well_it_was_answered(tmp_path: Path) -> None:
    """No optimisation may win by answering worse, so HotpotQA's scores stand in every result."""
    page = render("One run", [section("a", tmp_path)])
    for text in ("supporting-fact F1", "<td>0.125</td>", "means over n answers"):
        assert text in page


def test_a_store_that_changed_comes_first() -> None:
    """Every number below rests on what was retrieved; a reader must not find that in the manifest."""
    rows = [{"store_changed": "no"}, {"store_changed": "5 documents, then 6 documents"}, {}]
    first, *_ = verdicts_of(SILENT, {"accounting": rows})
    assert first.startswith("The store changed while it was searched (5 documents, then 6 documents)")
    assert verdicts_of(SILENT, {"accounting": rows[:1]}) == []


def test_a_suite_opens_with_an_answer_to_each_question(tmp_path: Path) -> None:
    """Whoever opens seven experiments wants the seven answers, and only then the figures behind one of them."""
    page = render("All", [section("a", tmp_path), section("b", tmp_path)])
    opening = page.partition("<h2")[0]
    assert opening.count("decide takes 60.0% of a question") == 2
    assert opening.count('href="#latency"') == 2
    alone = render("One run", [section("a", tmp_path)])
    assert alone.count("decide takes 60.0% of a question") == 1


def test_a_picture_stands_under_its_own_title(tmp_path: Path) -> None:
    """A reader who sees no picture, or prints one page, was told `throughput.png`."""
    canvas, (axes,) = sheet("64 at a time answer most:\n8.35 questions / s", "run x", (1.0,))
    name(axes, "Answers per second")
    found = picture_of(save(canvas, tmp_path / "throughput.png"))
    assert found["title"] == "64 at a time answer most: 8.35 questions / s"
    assert found["alt"] == f"{found['title']}. Answers per second"
    (tmp_path / "old.png").write_bytes(b"\x89PNG")
    assert picture_of(tmp_path / "old.png")["title"] == "old.png"


def test_conclusions_stand_in_three_groups(tmp_path: Path) -> None:
    """What was found, what limits it and how it was counted were one list of ten sentences; the second sank in it."""
    found = grouped(["It fell.", Bookkeeping("8 of 8 were answered."), Caveat("One start per arm."), "It rose."])
    assert list(found.values()) == [["It fell.", "It rose."], ["One start per arm."], ["8 of 8 were answered."]]
    (tmp_path / "manifest.json").write_text("{}")
    sentences = [Caveat("Too few."), "It fell."]
    study: Any = SimpleNamespace(
        name="x", title="x", columns=("",), headline=lambda _: [], verdicts=lambda _: sentences
    )
    page = render("One run", [section_of(study, Finished("run", {}, (), tmp_path))])
    assert page.index("It fell.") < page.index("What limits it") < page.index("Too few.")


def test_what_became_of_the_questions_names_arm_and_load(tmp_path: Path) -> None:
    """Fourteen rows without arm or level were fourteen equal rows; and a time is worth what its host was."""
    windows = [{"arm": arm, "point": "c8"} for arm in ("prefix-off", "prefix-on")]
    measured = [{"window": window, "engine": {"version": "0.32.0"}} for window in windows]
    host = {"processor": "AMD EPYC", "load_before": 7.5}
    (tmp_path / "manifest.json").write_text(json.dumps({"measured": measured, "host": host}))
    summary = {"accounting": [{"sent": 8, "failed": {}}, {"sent": 8, "failed": {"timeout": 1}}]}
    shown = section_of(QUIET, Finished("run", summary, (), tmp_path))
    assert shown.accounting[1] == {"arm": "prefix-on", "load": "8 at a time", "sent": "8", "failed": "timeout: 1"}
    assert shown.host == {"processor": "AMD EPYC", "load before": "7.5", "engine": "vLLM 0.32.0"}


@pytest.mark.parametrize(
    ("manifest", "summary", "says"),
    [
        ({"measured": [{"engine": {"has_random_weights": True}}]}, {}, "RANDOM WEIGHTS"),
        ({"measured": [{"engine": {}}, {"engine": {"has_random_weights": True}}]}, {}, "RANDOM WEIGHTS"),
        ({}, {"replay_of": "earlier"}, "REPLAY of earlier"),
        ({}, {"source": "simulated", "origin": "SIMULATED replies"}, "SIMULATED replies. No engine ran"),
        ({}, {"loads": [{"backend": "replay"}]}, "REPLAYED GPU trace"),
        ({"label": "Recorded on an H200."}, {}, "Recorded on an H200."),
    ],
)
def test_what_is_not_real_is_named_in_the_text(
    tmp_path: Path, manifest: dict[str, Any], summary: dict[str, Any], says: str
) -> None:
    """Inside the pictures alone it is lost on whoever reads, searches or copies the tables."""
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    finished = Finished("run", {"accounting": [], **summary}, (), tmp_path)
    page = render("One run", [section_of(QUIET, finished)])
    assert f'<p class="replay">{says}' in page
    console = Console(record=True, width=200)
    print_finished(console, QUIET, finished)
    assert says in console.export_text()


def test_a_run_of_which_all_is_real_bears_no_mark(tmp_path: Path) -> None:
    """A banner over everything is not read."""
    (tmp_path / "manifest.json").write_text(json.dumps({"measured": [{"engine": {"has_random_weights": None}}]}))
    assert marks_of(Finished("run", {"loads": [{"backend": "nvml"}], "replay_of": None}, (), tmp_path)) == []

"""A run is drawn again from what it left: its series while Prometheus has them, else its CSV, else not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from tests.stubs.run import ACCOUNTING, measured
from workload.cli import run_command_line
from workload.dashboards.catalogue import dashboard_of
from workload.errors import UsageError
from workload.experiments import EXPERIMENTS
from workload.experiments.lookup import study_of
from workload.panels.data import Trace
from workload.panels.vllm_metrics import HIT_RATIO, KV_USAGE
from workload.record.bundle import Bundle
from workload.record.journal import Journal
from workload.record.results import RunData
from workload.report.latest_results import publish
from workload.report.past_run import open_run
from workload.report.redraw import read_traces, redraw
from workload.services.prometheus import NoDataError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from workload.charts.drawing import Drawing
    from workload.services.prometheus import PrometheusClient

RUN = "20250131-235959-vllm-metrics"
ENGINE = {"version": "0.32.0", "model": "stub", "block_size": 16, "prefix_caching": None}
SETTINGS = {"limit": 2, "max_hops": 2, "k": 10, "a_setting_of_old": 1}


class Prometheus:
    """A Prometheus with the run's data, or without any."""

    url = "http://stub"

    def __init__(self, *, has_run: bool) -> None:
        self.has_run = has_run

    def raw(self, selector: str, start: float, end: float) -> list[None]:
        """Answer whether there is anything."""
        if not self.has_run:
            raise NoDataError(selector, (start, end))
        return []


def client(*, has_run: bool) -> PrometheusClient:
    """Return a client of it."""
    return cast("PrometheusClient", Prometheus(has_run=has_run))


def latest(results: Path, run: str) -> Path:
    """Leave a run's files in the experiment's folder, and return it."""
    folder = results / "hop2rag" / "vllm_metrics"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(json.dumps({"run": run}))
    (folder / "cache_metrics.png").write_bytes(run.encode())
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Return a results folder with a finished run of two windows; it has drawn two panels."""
    parts = [replace(measured(arm, block=block), engine=ENGINE, accounting=ACCOUNTING)
             for block, arm in enumerate(("prefix-off", "prefix-on"))]  # fmt: skip
    bundle = Bundle(tmp_path, RUN)
    bundle.start("vllm-metrics", SETTINGS)
    bundle.note(status="finished", measured=[part.as_dict() for part in parts])
    bundle.write_json("summary.json", {"experiment": "vllm-metrics", "run": RUN})
    latest(tmp_path, RUN)
    with Journal(bundle.journal, {}):
        pass
    for panel in (HIT_RATIO, KV_USAGE):
        rows = [("prefix-on", 1, "c1", "", float(at), at / 10) for at in range(5)]
        bundle.write_csv(f"panels/{panel.key}.csv", ("arm", "block", "point", "legend", "seconds", "value"), rows)
    return tmp_path


def test_while_prometheus_has_it_everything_is_drawn(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same figures under the same names, and the report around them, as on the day of the run."""
    seen: list[Drawing] = []

    def draw(drawing: Drawing) -> list[Path]:
        seen.append(drawing)
        return []

    reported = {"reduce": lambda _: {}, "headline": lambda _: [], "verdicts": lambda _: ["Fine."]}
    study = replace(cast("Any", EXPERIMENTS["vllm-metrics"]), draw=draw, **reported)
    monkeypatch.setitem(EXPERIMENTS, "vllm-metrics", study)
    assert redraw(open_run(RUN, results, study_of), client(has_run=True)) == []
    (drawing,) = seen
    assert drawing.folder == results / "hop2rag" / "vllm_metrics"
    assert isinstance(drawing.data, RunData)
    assert [part.window.arm for part in drawing.data.measured] == ["prefix-off", "prefix-on"]
    assert drawing.footer.startswith(f"run {RUN}; vLLM 0.32.0; stub;")
    assert "Fine." in (results / "runs" / RUN / "report.html").read_text()


def test_what_an_older_version_worked_out_is_worked_out_anew(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures name the estimator of today, so numbers of an older one may not stand in them; the order run stays."""
    seen: list[Drawing] = []
    reported = {"reduce": lambda _: {"rate": "new"}, "headline": lambda _: [], "verdicts": lambda _: []}
    study = replace(
        cast("Any", EXPERIMENTS["vllm-metrics"]), draw=lambda drawing: seen.append(drawing) or [], **reported
    )
    monkeypatch.setitem(EXPERIMENTS, "vllm-metrics", study)
    Bundle(results, RUN).write_json(
        "summary.json", {"experiment": "vllm-metrics", "run": RUN, "rate": "old", "order": "AB"}
    )
    redraw(open_run(RUN, results, study_of), client(has_run=True))
    assert (seen[0].summary["rate"], seen[0].summary["order"]) == ("new", "AB")
    for folder in (results / "hop2rag" / "vllm_metrics", results / "runs" / RUN):
        written = json.loads((folder / "summary.json").read_text())
        assert (written["rate"], written["order"]) == ("new", "AB"), folder


@pytest.mark.parametrize("has_run", [True, False])
def test_row_26_an_earlier_run_is_not_drawn_with_a_later_one(
    results: Path, monkeypatch: pytest.MonkeyPatch, *, has_run: bool
) -> None:
    """Its pictures under a later run's JSON were one folder of two runs; they go to the run's own."""
    folder = latest(results, "20260101-000000-vllm-metrics")
    reported = {"reduce": lambda _: {}, "headline": lambda _: [], "verdicts": lambda _: [], "draw": lambda _: []}
    monkeypatch.setitem(EXPERIMENTS, "vllm-metrics", replace(cast("Any", EXPERIMENTS["vllm-metrics"]), **reported))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    drawn = redraw(open_run(RUN, results, study_of), client(has_run=has_run))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    own = results / "runs" / RUN / "figures"
    assert {path.parent for path in drawn} <= {own}
    if has_run:
        assert json.loads((own / "summary.json").read_text())["run"] == RUN


@pytest.mark.parametrize(("before", "stays"), [("20260101-000000-vllm-metrics", False), (RUN, True)])
def test_a_run_without_pictures_leaves_none_of_another_run(results: Path, before: str, *, stays: bool) -> None:
    """`--no-figures` wrote its JSON next to the pictures of the run before."""
    folder = latest(results, before)
    (folder / "notes.txt").write_text("mine")
    assert publish(Bundle(results, RUN), EXPERIMENTS["vllm-metrics"], {"run": RUN}) == folder
    assert (folder / "cache_metrics.png").exists() is stays
    assert (folder / "notes.txt").exists()
    assert json.loads((folder / "summary.json").read_text())["run"] == RUN


def test_a_recordings_label_stays_in_the_picture(results: Path) -> None:
    """Drawn again, an H200's figure must not turn into one of this host."""
    bundle = Bundle(results, RUN)
    bundle.note(**bundle.resume(), label="Recorded elsewhere.")
    assert open_run(RUN, results, study_of).footer.startswith("Recorded elsewhere.\nrun ")


def test_without_prometheus_the_csv_is_drawn(results: Path) -> None:
    """A figure all of whose panels were kept comes back whole; the report, which needs more, stays as it was."""
    paths = redraw(open_run(RUN, results, study_of), client(has_run=False))
    assert [path.name for path in paths] == ["cache_metrics.png"]
    assert paths[0].stat().st_size > 10_000
    assert not (results / "runs" / RUN / "report.html").exists()


def test_a_panel_without_its_figure_is_drawn_alone(results: Path) -> None:
    """Half of what was measured is better than none of it."""
    (results / "runs" / RUN / "panels" / f"{KV_USAGE.key}.csv").unlink()
    assert [path.name for path in redraw(open_run(RUN, results, study_of), client(has_run=False))] == [
        f"panel_{HIT_RATIO.key}.png"
    ]


def test_nothing_left_is_said(results: Path) -> None:
    """An empty answer would look like a run without figures."""
    for path in (results / "runs" / RUN / "panels").glob("*.csv"):
        path.unlink()
    with pytest.raises(UsageError, match="Nothing is left to draw"):
        redraw(open_run(RUN, results, study_of), client(has_run=False))


def test_csv_comes_back_as_it_was_written(results: Path) -> None:
    """The picture drawn from it must be the picture that was drawn before."""
    found = read_traces(results / "runs" / RUN / "panels" / f"{HIT_RATIO.key}.csv", HIT_RATIO)
    want = Trace("prefix-on", 1, "c1", "", "", seconds=np.arange(5.0), values=np.arange(5.0) / 10)
    (trace,) = found
    assert (trace.arm, trace.block, trace.point, trace.legend) == (want.arm, want.block, want.point, want.legend)
    np.testing.assert_array_equal(trace.seconds, want.seconds)
    np.testing.assert_array_equal(trace.values, want.values)


@pytest.mark.parametrize("text", ["arm,block\n1,x\n", "arm,block,point,legend,seconds,value\na,1,c1,,NOW,1\n"])
def test_damaged_csv_is_named(tmp_path: Path, text: str) -> None:
    """A spreadsheet may have saved it again in its own way."""
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(UsageError, match=r"a\.csv is damaged"):
        read_traces(tmp_path / "a.csv", HIT_RATIO)


def manifest(results: Path, change: Mapping[str, Any]) -> None:
    """Change a run's manifest."""
    path = results / "runs" / RUN / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


@pytest.mark.parametrize("command", ["figures", "export"])
def test_a_run_that_is_not_finished_is_not_drawn(
    results: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its summary is what the figures and the report are made of."""
    (results / "runs" / RUN / "summary.json").unlink()
    manifest(results, {"status": "interrupted"})
    assert run_command_line([command, "--run", RUN, "--results", str(results)]) == 2
    assert f"interrupted. Finish it: hop2rag run vllm-metrics --resume {RUN}" in " ".join(
        capsys.readouterr().err.split()
    )


@pytest.mark.parametrize(
    ("flags", "change", "says"),
    [
        (["--run", "nobody"], {}, "no run with a manifest"),
        (["--run", "../../etc"], {}, "is not a plain name"),
        (["--run", RUN, "--dashboard", "sales"], {}, "no dashboard 'sales'"),
        (["--run", RUN, "--snapshot"], {}, "A snapshot needs a Grafana"),
        (["--run", RUN], {"measured": []}, "has no series"),
        (["--run", RUN], {"experiment": "suite"}, "unknown experiment"),
        (["--run", RUN], {"settings": {"limit": "many"}}, "are damaged, or of another release"),
        (["--run", RUN], {"measured": [{}]}, "are damaged, or of another release"),
    ],
)
def test_an_export_that_cannot_be_is_refused(
    results: Path,
    flags: list[str],
    change: dict[str, Any],
    says: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each before anything is started or written."""
    monkeypatch.delenv("GRAFANA_URL", raising=False)
    manifest(results, change)
    assert run_command_line(["export", *flags, "--results", str(results)]) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not (results / "runs" / RUN / "export").exists()


def test_a_prometheus_that_is_not_there_is_named(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One that is named is asked and no other: nothing is started in its place."""
    flags = ["--run", RUN, "--results", str(results), "--prometheus-url", "http://127.0.0.1:9"]
    assert run_command_line(["export", *flags]) == 4
    assert "http://127.0.0.1:9 does not answer" in " ".join(capsys.readouterr().err.split())


def test_a_comparison_of_typed_arms_is_known_again(results: Path) -> None:
    """Its arms are in no module, only in the run's own settings."""
    manifest(results, {"experiment": "ab", "settings": {**SETTINGS, "arms": ["original", "append-only"]}})
    found = open_run(RUN, results, study_of)
    assert found.study.name == "ab"
    assert dashboard_of(found.study.name).uid == "hop2rag-overview"
    assert dashboard_of("latency").uid == "hop2rag-latency"

"""Fourth layer: every query of every dashboard, asked of a real Prometheus."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.grafana.conftest import RECORDED
from tests.grafana.execution import Shown, ask, choices, failures, of_panel
from tests.grafana.expansion import expand
from tests.grafana.lint import panels, selectors
from tests.grafana.reference import END, RUN, START
from workload.dashboards.catalogue import DASHBOARDS
from workload.panels.overview import DELTAS
from workload.promql.gpu_memory import DEVICE_MEMORY, KV_BYTES
from workload.promql.overview import ARM_ANSWERED, ARM_HIT_SHARE
from workload.promql.vllm_metrics import KV_USAGE, RUNNING, WAITING
from workload.services.prometheus import NoDataError

if TYPE_CHECKING:
    from workload.demo.recording import Recording
    from workload.promql.query import Query
    from workload.services.prometheus import PrometheusClient

pytestmark = pytest.mark.prometheus
PEAKS = [
    (KV_USAGE, "vllm:kv_cache_usage_perc"),
    (RUNNING, "vllm:num_requests_running"),
    (WAITING, "vllm:num_requests_waiting"),
]
IN_A_FIGURE = [
    (KV_USAGE, "kv_usage_peak"),
    (KV_BYTES, "kv_bytes_peak"),
    (RUNNING, "running_peak"),
    (WAITING, "waiting_peak"),
    (DEVICE_MEMORY, "device_bytes_peak"),
]
H200 = [each for each in RECORDED if each.folder.name == "h200"]
# The panels that are empty in every recorded run, and their words for it: recordings contain no alerts, and
# these are older than the ledger of prompt tokens.
EMPTY = {
    "Alerts that fired": "none",
    "What becomes of prompt tokens, by fate": "no ledger",
    "Prompt tokens in a cache: once, anywhere, here, hit": "no ledger",
    "By node: share of prompt tokens by fate": "no ledger",
    "By hop: share of prompt tokens by fate": "no ledger",
}
# Series that no figure read are left out of a recording, and an alert or an error of the driver is not in every run. Of
# hits and queries the recordings have the ratio, which the panel reads without them. They are older than the ledger of
# prompt tokens.
LEFT_OUT = re.compile(
    r"scrape_|hop2rag_exporter_raw_log_|hop2rag_host_filesystem_|ALERTS$|nvml_errors_total$"
    r"|instance:\w+_per_\w+:ratio_increase5m$|instance:vllm_prefix_cache_(hits|queries):rate10s$"
    r"|hop2rag_prompt_token_fate_total$|hop2rag_findable_prompt_tokens_total$"
)
OF_A_GPU = re.compile(r"nvml_|hop2rag_exporter_sample")
# Its first query leaves out what did not happen.
NO_FAILURE_BY_REASON = "What fails?"


@pytest.mark.parametrize("name", [dashboard.name for dashboard in DASHBOARDS])
def test_every_query_finds_data(
    name: str, dashboards: dict[str, dict[str, Any]], filled: tuple[PrometheusClient, Shown]
) -> None:
    """An empty panel looks like a quiet system; nothing else tells that its query was wrong."""
    assert failures(dashboards[name], *filled) == []


@pytest.mark.parametrize("name", [dashboard.name for dashboard in DASHBOARDS])
def test_a_server_without_a_run_is_on_every_dashboard(
    name: str, dashboards: dict[str, dict[str, Any]], filled_by_others: tuple[PrometheusClient, Shown]
) -> None:
    """Whoever adds a server by our own words writes no run into its labels: with All, every panel must show it."""
    client, shown = filled_by_others
    found = [
        failure
        for panel in panels(dashboards[name])
        if panel["title"] != DELTAS.title  # without an arm there is none to compare with
        for failure in of_panel(panel, client, shown)
    ]
    assert [failure for failure in found if "no label ['arm']" not in failure] == []


def test_a_dashboard_opens_with_the_newest_run(
    dashboards: dict[str, dict[str, Any]],
    filled_by_others: tuple[PrometheusClient, Shown],
    recorded_run: tuple[PrometheusClient, Shown, Recording],
) -> None:
    """Totals of two runs are of neither; servers without a run are seen at once where there is no run."""
    client, shown, recording = recorded_run
    variable = next(each for each in dashboards["overview"]["templating"]["list"] if each["name"] == "run")
    everything = [(".*", "(all runs)")]
    assert choices(variable, *filled_by_others) == everything
    newest_first = [(run, run) for run in sorted(recording.runs, reverse=True)]
    assert choices(variable, client, shown) == [*newest_first, *everything]


def test_a_warm_up_is_in_no_total(filled: tuple[PrometheusClient, Shown]) -> None:
    """One arm's warm-up lies in the time shown and the other's does not: six questions against five."""
    client, shown = filled
    for query, answered in ((ARM_ANSWERED, 10), (ARM_HIT_SHARE, 0.6)):
        promql = query.scoped(RUN, 1.0, range_seconds=END - START)
        assert {round(each.value, 2) for each in client.query(promql, shown.end)} == {answered}


@pytest.mark.parametrize("name", [dashboard.name for dashboard in DASHBOARDS])
def test_a_recorded_run_fills_every_panel(
    name: str, dashboards: dict[str, dict[str, Any]], recorded_run: tuple[PrometheusClient, Shown, Recording]
) -> None:
    """What a real run leaves in Prometheus is what panels are for; silent is only a query of what the run cannot have.

    Without a GPU that is what a GPU tells, and the panel says so; nothing else, on whatever host it was recorded.
    """
    client, shown, recording = recorded_run
    has_gpu = "no GPU" not in recording.label
    for panel in panels(dashboards[name]):
        for target in panel["targets"]:
            silent = list(of_panel({**panel, "targets": [at_any_time(target)]}, client, shown))
            absent = {name for name in names(target["expr"]) if not is_stored(name, client, shown)}
            of_gpu = set() if has_gpu else {name for name in absent if OF_A_GPU.match(name)}
            unexplained = {name for name in absent - of_gpu if not LEFT_OUT.match(name)}
            assert unexplained == set(), panel["title"]
            if not absent and not (panel["title"] == NO_FAILURE_BY_REASON and target["refId"] == "A"):
                assert silent == []
            if of_gpu:
                assert panel["fieldConfig"]["defaults"]["noValue"] in {"no GPU data", "no errors"}, panel["title"]


@pytest.mark.parametrize(
    ("recorded_run", "run"), [(each, run) for each in H200 for run in each.runs], indirect=["recorded_run"]
)
def test_each_run_fills_the_dashboard_of_its_experiment(
    run: str, dashboards: dict[str, dict[str, Any]], recorded_run: tuple[PrometheusClient, Shown, Recording]
) -> None:
    """Together the runs fill every panel, but people look at one run, and the first panel of three was empty."""
    client, shown, _ = recorded_run
    (scraped,) = client.query_range(f'count(up{{run="{run}"}})', shown.start, shown.end, 1.0)
    of_run = Shown(float(scraped.times[0]), float(scraped.times[-1]))
    drawn = panels(dashboards[run.split("-", 2)[2]])
    empty = {
        panel["title"]: panel["fieldConfig"]["defaults"]["noValue"]
        for panel in drawn
        if not any(has_data(at_any_time(target), run, client, of_run) for target in panel["targets"])
    }
    assert empty == {panel["title"]: EMPTY[panel["title"]] for panel in drawn if panel["title"] in EMPTY}


@pytest.mark.parametrize("recorded_run", H200, indirect=True)
@pytest.mark.parametrize(("query", "metric"), PEAKS, ids=lambda value: getattr(value, "name", ""))
def test_a_panel_has_the_peak_of_the_samples_at_every_step(
    query: Query, metric: str, recorded_run: tuple[PrometheusClient, Shown, Recording]
) -> None:
    """A gauge read once a step misses what is between: at ten seconds a sixth of the peak was left."""
    client, shown, _ = recorded_run
    samples = f'{metric}{{job="vllm-fast",phase!="warmup"}}'
    seconds = round(shown.end - shown.start)
    truth = client.query(f"max(max_over_time({samples}[{seconds}s]))", shown.end)[0].value
    for step in (1.0, 10.0):
        found = client.query_range(query.scoped({}, step), shown.start, shown.end, step)
        assert max(np.nanmax(series.values) for series in found) == truth


@pytest.mark.parametrize("recorded_run", H200, indirect=True)
@pytest.mark.parametrize(("query", "fact"), IN_A_FIGURE, ids=lambda value: getattr(value, "name", ""))
def test_a_panel_and_a_figure_have_the_same_peak(
    query: Query, fact: str, recorded_run: tuple[PrometheusClient, Shown, Recording]
) -> None:
    """`memory_vs_concurrency.png` showed 62 running calls where the dashboard of the same run showed 21."""
    client, shown, recording = recorded_run
    (run,) = (name for name in recording.runs if name.endswith("-concurrency"))
    levels = json.loads((recording.folder / "runs" / run / "summary.json").read_text())["levels"]
    found = client.query_range(query.scoped({"run": run}, 1.0), shown.start, shown.end, 1.0)
    in_panel = {series.labels["arm"]: np.nanmax(series.values) for series in found}
    in_figure = {arm: max(row["engine"][fact] for row in levels if row["arm"] == arm) for arm in ("low", "high")}
    assert in_panel == pytest.approx(in_figure, rel=1e-9)


def test_each_line_has_the_windows_of_its_own_job(dashboards: dict[str, dict[str, Any]]) -> None:
    """A rate of a job of one second, in a panel drawn every tenth of one, found no two samples in its window."""
    slow_in_fast = [
        target["interval"]
        for dashboard in dashboards.values()
        for panel in panels(dashboard)
        if panel.get("interval") in {"10ms", "100ms"}
        for target in panel["targets"]
        if "-fast" not in target["expr"] and "-timeline" not in target["expr"]
    ]
    assert slow_in_fast
    assert set(slow_in_fast) == {"1s"}


def at_any_time(target: dict[str, Any]) -> dict[str, Any]:
    """Return a target of the present asked over all that is shown: at the end of a recording nothing answers."""
    return {**target, "instant": target.get("instant", False) and "$__range" in target["expr"]}


def has_data(target: dict[str, Any], run: str, client: PrometheusClient, shown: Shown) -> bool:
    """Return whether a target finds a number with a run chosen."""
    try:
        found = ask({**target, "expr": target["expr"].replace("$run", run)}, client, shown)
    except NoDataError:
        return False
    return not all(np.isnan(values).all() for _, values in found)


def names(expression: str) -> set[str]:
    """Return the metrics that a query selects."""
    return {str(selector.name) for selector, _ in selectors(expand(expression))}


def is_stored(metric: str, client: PrometheusClient, shown: Shown) -> bool:
    """Return whether a recording has any sample of a metric."""
    try:
        return bool(client.query(f"count(last_over_time({metric}[{round(shown.end - shown.start)}s]))", shown.end))
    except NoDataError:
        return False


def test_the_check_of_a_recording_sees_what_is_missing(
    recorded_run: tuple[PrometheusClient, Shown, Recording],
) -> None:
    """A rule that let every silence through would pass on an empty recording."""
    client, shown, _ = recorded_run
    assert is_stored("hop2rag_questions_total", client, shown)
    assert not is_stored("hop2rag_questions_totl", client, shown)
    assert not any(pattern.match("hop2rag_questions_total") for pattern in (LEFT_OUT, OF_A_GPU))

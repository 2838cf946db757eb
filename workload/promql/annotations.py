"""What marks the time axis of every dashboard, and what its variables may be set to."""

from __future__ import annotations

from workload.promql.query import Query

ENGINE = "instance:vllm_requests_running:sum"

# While an arm's agent answers: from before its warm-up until its labels change.
ARM_SPANS = Query("arm_spans", 'max by (run, experiment, arm) (up{job="workload",$watched})')
# Of all runs and of none: an alert on a full disk carries no run.
ALERTS = 'ALERTS{alertstate="firing",alertname!="Hop2RagWatchdog"}'
TAG = "hop2rag"
"""Of each of our dashboards."""

# Tags of the annotations that Grafana's API adds: measured windows, and what an alert made a run do.
WINDOW_TAG, ACTION_TAG = "hop2rag-window", "hop2rag-action"

DEFAULT_BASELINE = "prefix-off"
JOBS = "label_values(vllm:num_requests_running, job)"
# The runs in the time shown, then what is live between two of them, then everything: servers without a run too. Sorted
# downwards, a bracket comes after every digit, so that the newest run is the first.
ALL_RUNS, ALL_RUNS_TEXT = ".*", "(all runs)"
RUNS = (
    'query_result(label_replace(label_join(group by (run) (last_over_time(up{run!=""}[$__range])), "text", "", "run"),'
    ' "text", "(live)", "run", "live")'
    f' or label_replace(label_replace(vector(1), "run", "{ALL_RUNS}", "", ""), "text", "{ALL_RUNS_TEXT}", "", ""))'
)
RUN_AND_TEXT = '/run="(?<value>[^"]+)",text="(?<text>[^"]+)"/'
EXPERIMENTS = 'label_values(up{run=~"$run"}, experiment)'
ARMS = 'label_values(up{run=~"$run",experiment=~"$experiment"}, arm)'
MODELS = f'label_values({ENGINE}{{run=~"$run"}}, model_name)'
GPUS = 'label_values(nvml_memory_total_bytes{run=~"$run"}, gpu)'
INSTANCES = f'label_values({ENGINE}{{run=~"$run",model_name=~"$model_name"}}, instance)'

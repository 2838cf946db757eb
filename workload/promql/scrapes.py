"""Queries of what scrapes tell of targets: whether they answered, since when, and whether an engine began again."""

from __future__ import annotations

from workload.promql.selectors import selector

# Grows with every call, so that a restart of the engine shows as a reset.
GROWING = "vllm:prompt_tokens_total"
# Longer than any soak: the run's own label bounds what is found.
WHOLE = "31d"
# One of our rules, which always fires.
WATCHDOG = 'ALERTS{alertname="Hop2RagWatchdog",alertstate="firing"}'

# The rates that our rules record; their names end in the window.
RECORDED_RATES = 'group by (__name__) ({__name__=~"instance:vllm_.+:rate.+"})'


def resets_of_engines(run: str) -> str:
    """Return how often the counters of each engine of a run began again at 0."""
    return f"resets({selector(GROWING, {'run': run, 'job': 'vllm'})}[{WHOLE}])"


def good_scrapes(run: str, job: str) -> str:
    """Return the number of scrapes of a job that went well in a run: Prometheus dates them, not the runner's clock."""
    return f"sum(sum_over_time({selector('up', {'run': run, 'job': job})}[{WHOLE}]))"


def scraped_since(instant: float) -> str:
    """Return the targets that were last scraped after an instant, in seconds since the epoch."""
    return f'timestamp(up{{job!="prometheus"}}) > {instant:.3f}'


def of_live_targets(alert: str, instant: float) -> str:
    """Return an alert's expression without the runs whose targets were last scraped before an instant.

    An alert without a `run` label, such as one on Prometheus itself, is unchanged.
    """
    return (
        f"(\n{alert.strip()}\n)\n"
        f'and on (run) (group by (run) (timestamp(up{{run!=""}}) > {instant:.3f}) or vector(1))\n'
        f'unless on (run, instance) timestamp(up{{run!=""}}) <= {instant:.3f}\n'
    )

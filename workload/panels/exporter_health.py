"""Panels of the monitoring's own health: are the numbers on the other dashboards to be believed?"""

from __future__ import annotations

from workload.panels.panel import SPARSE, Line, Panel
from workload.promql import exporter_health as promql

UP_WORDS = ((0.0, "down"), (1.0, "up"))
SUCCESS_WORDS = ((0.0, "failed"), (1.0, "ok"))

TARGETS_DOWN = Panel(
    key="targets_down",
    title="Targets that do not answer",
    why="At the last scrape, by job (up).",
    unit="short",
    lines=(Line(promql.TARGETS_DOWN, "{{job}}"),),
    empty="no targets",
    kind="stat",
    thresholds=((1, "red"),),
)
SAMPLE_RATE = Panel(
    key="sample_rate_by_gpu",
    title="Memory samples per second",
    why="As achieved over ten seconds (hop2rag_exporter_sample_rate_hertz); 100 is one every 10 ms.",
    unit="hertz",
    lines=(Line(promql.SAMPLE_RATE, "{{instance}} GPU {{gpu}}"),),
    empty="no GPU data",
    kind="stat",
)
SAMPLE_AGE = Panel(
    key="sample_age",
    title="Age of the last memory sample",
    why="Grows while a call to the driver hangs (hop2rag_exporter_sample_age_seconds).",
    unit="s",
    lines=(Line(promql.SAMPLE_AGE, "{{instance}} GPU {{gpu}}"),),
    empty="no GPU data",
    kind="stat",
    thresholds=((1, "orange"), (5, "red")),
)
UP = Panel(
    key="targets_up",
    title="Which targets answer?",
    why="One row per target, down where a scrape failed (up).",
    unit="none",
    lines=(Line(promql.UP, "{{job}} {{instance}}"),),
    kind="state-timeline",
    words=UP_WORDS,
)
COLLECTOR_SUCCESS = Panel(
    key="collector_success",
    title="Which collectors answer?",
    why="A collector that fails lowers its series and leaves the scrape alive (hop2rag_exporter_collector_success).",
    unit="none",
    lines=(Line(promql.COLLECTOR_SUCCESS, "{{collector}} {{instance}}"),),
    empty="no exporter data",
    kind="state-timeline",
    words=SUCCESS_WORDS,
)
COLLECTOR_SECONDS = Panel(
    key="collector_seconds",
    title="Time of each collector",
    why="Part of every scrape (hop2rag_exporter_collector_duration_seconds).",
    unit="s",
    lines=(Line(promql.COLLECTOR_SECONDS, "{{collector}}"),),
    empty="no exporter data",
)
SCRAPE_SECONDS = Panel(
    key="scrape_seconds",
    title="Slowest scrape of each job",
    why="A scrape that takes as long as its interval becomes a gap (scrape_duration_seconds).",
    unit="s",
    lines=(Line(promql.SCRAPE_SECONDS, "{{job}}"),),
)
SCRAPE_SAMPLES = Panel(
    key="scrape_samples",
    title="Samples of a scrape by job",
    why="What each job costs Prometheus (scrape_samples_scraped).",
    unit="short",
    lines=(Line(promql.SCRAPE_SAMPLES, "{{job}}"),),
)
GAP_P99 = Panel(
    key="sample_gap_p99_by_gpu",
    title="Gap between memory samples, P99",
    why="As fine as the buckets of the sampler's histogram (hop2rag_exporter_sample_interval_seconds).",
    unit="s",
    lines=(Line(promql.GAP_P99, "{{instance}} GPU {{gpu}}"),),
    empty="no GPU data",
)
GAP_HEATMAP = Panel(
    key="sample_gap_heatmap",
    title="How even is the sampling?",
    why="Memory samples by time since the one before (hop2rag_exporter_sample_interval_seconds).",
    unit="s",
    lines=(Line(promql.GAP_BUCKETS, "{{le}}"),),
    empty="no GPU data",
    kind="heatmap",
    step=SPARSE,
)
SAMPLES_MISSED = Panel(
    key="samples_missed",
    title="Deadlines that passed without a sample",
    why="The thread was late or the driver slow (hop2rag_exporter_samples_missed_total).",
    unit="eps",
    lines=(Line(promql.SAMPLES_MISSED, "{{instance}} GPU {{gpu}}"),),
    empty="no GPU data",
)
RAW_LOG = Panel(
    key="raw_log",
    title="Rows of the raw log",
    why="Samples written, and attempts that failed "
    "(hop2rag_exporter_raw_log_rows_total, hop2rag_exporter_raw_log_write_errors_total).",
    unit="eps",
    lines=(Line(promql.RAW_ROWS, "{{instance}} rows"), Line(promql.RAW_ERRORS, "{{instance}} failed")),
    empty="no exporter data",
)
DRIVER_ERRORS = Panel(
    key="driver_errors",
    title="Calls to the driver that failed",
    why="By NVML's name for the error (nvml_errors_total).",
    unit="eps",
    lines=(Line(promql.DRIVER_ERRORS, "GPU {{gpu}} {{code}}"),),
    empty="no errors",
)
GPUS_UP = Panel(
    key="gpus_up",
    title="Which GPUs answer?",
    why="Lost while the exporter watches, or hung (nvml_gpu_up).",
    unit="none",
    lines=(Line(promql.GPU_UP, "{{instance}} GPU {{gpu}}"),),
    empty="no GPU data",
    kind="state-timeline",
    words=UP_WORDS,
)
XID_ERRORS = Panel(
    key="gpu_xid_errors",
    title="XID errors",
    why="Errors that the driver reported over the time shown (nvml_xid_errors_total); nvml_last_xid has the last code.",
    unit="short",
    lines=(Line(promql.XID_ERRORS, "{{instance}} GPU {{gpu}}"),),
    empty="no GPU data",
    kind="stat",
    thresholds=((1, "red"),),
)
ECC_ERRORS = Panel(
    key="gpu_ecc_uncorrected",
    title="Uncorrected memory errors",
    why="Over the time shown (nvml_ecc_uncorrected_errors_total); GPUs without ECC report none.",
    unit="short",
    lines=(Line(promql.ECC_ERRORS, "{{instance}} GPU {{gpu}}"),),
    empty="no GPU data",
    kind="stat",
    thresholds=((1, "red"),),
)
TEMPERATURE = Panel(
    key="gpu_temperature",
    title="Temperature of each GPU",
    why="A hot GPU lowers its clocks, and with them every number here (nvml_temperature_celsius).",
    unit="celsius",
    lines=(Line(promql.TEMPERATURE, "{{instance}} GPU {{gpu}}"),),
    thresholds=((85, "red"),),
    empty="no GPU data",
)
POWER = Panel(
    key="gpu_power",
    title="Power of each GPU",
    why="Instantaneous where the driver tells it (nvml_power_watts).",
    unit="watt",
    lines=(Line(promql.POWER, "{{instance}} GPU {{gpu}}"),),
    empty="no GPU data",
)
PROCESS_MEMORY = Panel(
    key="process_resident",
    title="Resident memory by process",
    why="The engine's and the agent's processes together (hop2rag_host_process_resident_memory_bytes).",
    unit="bytes",
    lines=(Line(promql.RESIDENT, "{{role}}"),),
    empty="no process watched",
)
PROCESS_CPU = Panel(
    key="process_cpu",
    title="CPU cores in use by process",
    why="CPU seconds per second (hop2rag_host_process_cpu_seconds_total): an engine on a CPU competes with its agent.",
    unit="short",
    lines=(Line(promql.PROCESS_CPU, "{{role}}"),),
    empty="no process watched",
)
HOST_FREE = Panel(
    key="host_memory_available",
    title="Host memory that can be had",
    why="Share that is free without swap (hop2rag_host_memory_available_bytes, hop2rag_host_memory_total_bytes).",
    unit="percentunit",
    lines=(Line(promql.HOST_FREE, "{{instance}}"),),
    empty="no exporter data",
)
DISK_FREE = Panel(
    key="filesystem_available",
    title="Disk space that is left",
    why="Of the file systems that results and Prometheus' data are written to (hop2rag_host_filesystem_avail_bytes, "
    "hop2rag_host_filesystem_size_bytes). Dashed: below it, and below 1 GiB, an alert fires.",
    unit="percentunit",
    thresholds=((0.05, "red"),),
    lines=(Line(promql.DISK_FREE, "{{volume}} {{instance}}"),),
    empty="no volume watched",
)

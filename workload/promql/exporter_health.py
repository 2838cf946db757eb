"""Queries of the monitoring's own health: are the numbers on the other dashboards to be believed? Also in a warm-up."""

from __future__ import annotations

from workload.promql.counts import count
from workload.promql.query import RATE_INTERVAL, Query

UP = Query("targets_up", "min by (job, instance) (up{$watched})")
TARGETS_DOWN = Query("targets_down", "sum by (job) (up{$watched} == bool 0)")
SCRAPE_SECONDS = Query(
    "scrape_seconds", "max by (job) (max_over_time(scrape_duration_seconds{$watched}[$__rate_interval]))"
)
SCRAPE_SAMPLES = Query("scrape_samples", "sum by (job) (scrape_samples_scraped{$watched})")
COLLECTOR_SUCCESS = Query(
    "collector_success", "min by (instance, collector) (hop2rag_exporter_collector_success{$watched})"
)
COLLECTOR_SECONDS = Query(
    "collector_seconds", "max by (collector) (hop2rag_exporter_collector_duration_seconds{$watched})"
)
SAMPLE_AGE = Query("sample_age", "max by (instance, gpu) (hop2rag_exporter_sample_age_seconds{$watched})")
SAMPLE_RATE = Query("sample_rate_by_gpu", "min by (instance, gpu) (hop2rag_exporter_sample_rate_hertz{$watched})")
SAMPLES_MISSED = Query(
    "samples_missed_rate",
    "sum by (instance, gpu) (rate(hop2rag_exporter_samples_missed_total{$watched}[$__rate_interval]))",
)
GAP_P99 = Query(
    "sample_gap_p99_by_gpu",
    "histogram_quantile(0.99, sum by (instance, gpu, le) "
    "(rate(hop2rag_exporter_sample_interval_seconds_bucket{$watched}[$__rate_interval])))",
)
GAP_BUCKETS = Query(
    "sample_gap_buckets", count("le", "hop2rag_exporter_sample_interval_seconds_bucket{$watched}", RATE_INTERVAL)
)
RAW_ROWS = Query(
    "raw_log_rows_rate", "sum by (instance) (rate(hop2rag_exporter_raw_log_rows_total{$watched}[$__rate_interval]))"
)
RAW_ERRORS = Query(
    "raw_log_errors_rate",
    "sum by (instance) (rate(hop2rag_exporter_raw_log_write_errors_total{$watched}[$__rate_interval]))",
)
DRIVER_ERRORS = Query(
    "nvml_errors_rate", "sum by (instance, gpu, code) (rate(nvml_errors_total{$watched}[$__rate_interval]))"
)
GPU_UP = Query("gpus_up", "min by (instance, gpu) (nvml_gpu_up{$watched})")
XID_ERRORS = Query("gpu_xid_errors", count("instance, gpu", "nvml_xid_errors_total{$watched}"))
ECC_ERRORS = Query("gpu_ecc_uncorrected", count("instance, gpu", "nvml_ecc_uncorrected_errors_total{$watched}"))
TEMPERATURE = Query("gpu_temperature", "max by (instance, gpu) (nvml_temperature_celsius{$watched})")
POWER = Query("gpu_power", "max by (instance, gpu) (nvml_power_watts{$watched})")
RESIDENT = Query("process_resident", "sum by (role) (hop2rag_host_process_resident_memory_bytes{$watched})")
PROCESS_CPU = Query(
    "process_cpu", "sum by (role) (rate(hop2rag_host_process_cpu_seconds_total{$watched}[$__rate_interval]))"
)
HOST_FREE = Query(
    "host_memory_available_ratio",
    "min by (instance) (hop2rag_host_memory_available_bytes{$watched} / hop2rag_host_memory_total_bytes{$watched})",
)
DISK_FREE = Query(
    "filesystem_available_ratio",
    "min by (instance, volume) "
    "(hop2rag_host_filesystem_avail_bytes{$watched} / hop2rag_host_filesystem_size_bytes{$watched})",
)

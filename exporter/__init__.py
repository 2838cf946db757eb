"""Publishes GPU, process and agent metrics for Prometheus. Never imports from `workload`."""

"""Grafana dashboards from the panel catalogue: `python -m workload.dashboards` rewrites the committed JSON."""

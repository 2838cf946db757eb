"""The services that run next to the load: Prometheus, Alertmanager, Grafana, the exporter's process."""

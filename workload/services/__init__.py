"""What runs beside the load: Prometheus, Alertmanager, Grafana, the exporter's process."""

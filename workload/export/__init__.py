"""A run's dashboard as files: a picture and a CSV for each panel, and a snapshot for Grafana."""

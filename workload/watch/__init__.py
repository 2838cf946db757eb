"""Files with which a Prometheus and a Grafana that run already watch a vLLM and an agent that run already."""

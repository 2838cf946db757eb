"""Reads GPUs: backends, samplers, latest readings, metric families and the raw log."""

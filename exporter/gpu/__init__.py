"""Reads GPUs: what the driver says, sampled, kept and told."""

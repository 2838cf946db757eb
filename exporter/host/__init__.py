"""Reads the host: totals, file systems and process trees."""

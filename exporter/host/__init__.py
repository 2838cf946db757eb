"""Reads the host: its totals, its file systems, and the trees of processes that matter."""

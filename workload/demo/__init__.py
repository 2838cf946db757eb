"""Loads a recorded run into a Prometheus of its own and draws it again: a GPU's figures on a host without a GPU."""

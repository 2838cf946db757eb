"""Apps that are not ours, to measure with `--app`."""

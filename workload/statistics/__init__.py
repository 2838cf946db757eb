"""Estimates and their intervals: percentiles, paired changes, resampling, growth, fits."""

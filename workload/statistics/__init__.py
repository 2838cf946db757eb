"""How sure a number is: percentiles, pairs, resampling, growth and fits."""

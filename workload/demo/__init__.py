"""A recorded run, loaded into a Prometheus of its own and drawn again: a GPU's figures on a host that has none."""

"""Pure functions from recorded values to findings."""

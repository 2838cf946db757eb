"""The panels: what a dashboard shows and a figure draws, from the same queries."""

"""What is kept of a run: journal, bundle, windows and results."""

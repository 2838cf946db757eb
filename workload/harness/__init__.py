"""How an experiment runs: from its settings to its measured windows."""

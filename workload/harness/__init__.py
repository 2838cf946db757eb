"""How an experiment runs: from its settings to its windows."""

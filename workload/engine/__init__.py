"""vLLM: its installation, the flags of each arm, the facts a running server reports, starting and attaching."""

"""vLLM: its installation, the flags of each arm, what a running server tells about itself, starting and attaching."""

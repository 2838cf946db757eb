"""The tap: a reverse proxy between any client and vLLM that learns token ids, hits and times, and changes nothing."""

"""Drives the Hop2Rag agent against vLLM and turns what was measured into figures."""

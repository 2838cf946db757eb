"""Hop2Rag: an agent for multi-hop questions as one LangGraph app, with its dependencies injected."""

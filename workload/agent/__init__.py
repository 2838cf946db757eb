"""Hop2Rag: a multi-hop question answering agent as one LangGraph app, with its dependencies injected."""

"""Meters any LangGraph app through LangChain's callbacks, without a change to its nodes.

Needs the extra `langgraph`: `pip install ".[langgraph]"` in a checkout.
"""

from exporter.langgraph.handler import MeteringHandler

__all__ = ["MeteringHandler"]

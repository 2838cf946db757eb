"""Serves the pages: connections, authentication, TLS and text formats."""

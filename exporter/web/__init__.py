"""Serves the pages: connections, authentication, TLS, and the text formats."""

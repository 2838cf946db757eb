"""Whose certificates are believed, by every client of ours."""

from __future__ import annotations

import ssl


def trusted() -> ssl.SSLContext:
    """Return the system's authorities, or those in the file that SSL_CERT_FILE names.

    Prometheus, which scrapes the same servers, goes by the same rule.
    """
    return ssl.create_default_context()

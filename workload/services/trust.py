"""The certificate authorities that all our clients trust."""

from __future__ import annotations

import ssl


def trusted() -> ssl.SSLContext:
    """Return the system's authorities, or those in the file that SSL_CERT_FILE names.

    Prometheus, which scrapes the same servers, follows the same rule.
    """
    return ssl.create_default_context()

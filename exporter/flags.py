"""Parses durations and addresses in the notation of Prometheus's flags."""

from __future__ import annotations

import re

from exporter.errors import UsageError

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m)")


def parse_duration(text: str, flag: str, shortest: float, longest: float) -> float:
    """Return a duration such as `10ms` in seconds.

    Raises:
        UsageError: it is not a duration, or it is outside `shortest` to `longest` seconds.
    """
    match = _DURATION.fullmatch(text)
    seconds = float(match[1]) * _UNITS[match[2]] if match else float("nan")
    if not shortest <= seconds <= longest:
        raise UsageError(f"{flag} {text} is not allowed.", f"Use {shortest:g}s to {longest:g}s, such as 10ms or 1s.")
    return seconds


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of `host:port`, `[v6]:port` or `:port` (all interfaces, as in Prometheus).

    Raises:
        UsageError: it is not such an address.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535 or (":" in host and not host.startswith("[")):
        raise UsageError(f"--web.listen-address {text} is not an address.", "Use host:port, such as 127.0.0.1:9400.")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - only where the user omits the host

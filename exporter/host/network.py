"""Which processes share a server's network: only those of its own container have its address."""

from __future__ import annotations

import json
import re
import socket
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import psutil

_LOCAL = re.compile(r"\|-- (\S+)\n\s+/32 host LOCAL")


def scraped_addresses(file: Path) -> set[str]:
    """Return the IP addresses of the servers in one of Prometheus's `file_sd` files.

    A name that does not resolve has none; nor has a file that is missing or half written.
    """
    found: set[str] = set()
    with suppress(OSError, ValueError, TypeError, KeyError):
        hosts = {
            str(target).rpartition(":")[0].strip("[]")
            for group in json.loads(file.read_text())
            for target in group["targets"]
        }
        for host in hosts:
            with suppress(OSError):
                found |= {str(address[4][0]) for address in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    return found


def own_addresses(pid: int) -> set[str]:
    """Return the IP addresses of the network that a process is in; every user may read them."""
    folder = Path(psutil.PROCFS_PATH, str(pid), "net")
    found: set[str] = set()
    with suppress(OSError):
        found |= set(_LOCAL.findall((folder / "fib_trie").read_text()))
    with suppress(OSError):
        lines = (folder / "if_inet6").read_text().splitlines()
        found |= {str(ip_address(bytes.fromhex(line.split()[0]))) for line in lines}
    return found

"""Finding out who uses a port, and comparing command lines."""

from __future__ import annotations

import os
import socket

from workload.services.listener import Listener, find_listener


def test_the_owner_of_a_port_is_found() -> None:
    """Reuse and refusal both hang on knowing whose server answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        listener = find_listener(port)
        assert listener is not None
        assert listener.pid == os.getpid()
        assert str(os.getpid()) in str(listener)
    assert find_listener(port) is None


def test_another_users_process_is_reported_as_such() -> None:
    """Without root its pid is hidden; the message must not print None."""
    assert str(Listener(None, ())) == "another user's process"

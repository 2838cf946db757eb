"""Finding out who uses a port, and comparing command lines."""

from __future__ import annotations

import os
import socket

from workload.services.listener import SERVER_MODULE, Listener, find_listener, server_flags


def test_the_owner_of_a_port_is_found() -> None:
    """Reuse and refusal both hang on knowing whose server answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        listener = find_listener(port)
        assert listener is not None
        assert listener.pid == os.getpid()
        assert str(os.getpid()) in str(listener)
    assert find_listener(port) is None


def test_another_users_process_is_told_as_such() -> None:
    """Without root its pid is hidden; the message must not print None."""
    assert str(Listener(None, ())) == "another user's process"


def test_flags_compare_in_any_order_and_spelling() -> None:
    """The same server started by hand has its flags in another order."""
    one = server_flags(("python", "-m", SERVER_MODULE, "--port", "1", "--enforce-eager", "--model=m"))
    two = server_flags(("/usr/bin/python3", "-m", SERVER_MODULE, "--model", "m", "--enforce-eager", "--port=1"))
    assert one == two == {"--port": "1", "--enforce-eager": "", "--model": "m"}


def test_another_program_has_no_flags() -> None:
    """A web server on port 8000 is not a vLLM with default flags."""
    assert server_flags(("python", "-m", "http.server", "8000")) is None
    assert server_flags(()) is None

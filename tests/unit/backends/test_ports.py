"""Choosing a port."""

from __future__ import annotations

import socket

from backends.ports import free_port


def test_the_preferred_port_is_returned_if_it_is_free() -> None:
    """A port that another program holds is not returned; another one is, and later the preferred one again."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = holder.getsockname()[1]
        substitute = free_port(taken)
        assert substitute not in {0, taken}
    assert free_port(taken) == taken

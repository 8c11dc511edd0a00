"""TCP ports of this machine, and its names."""

from __future__ import annotations

import contextlib
import socket

from digits.errors import EndpointError

LOCAL_HOSTS = {"localhost", "127.0.0.1", "::1"}


def free_port(preferred: int) -> int:
    """Return `preferred` if it is free on 127.0.0.1, else another free port.

    Raises:
        EndpointError: this machine has no free port.
    """
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
    raise EndpointError("this machine has no free port", remedy="lsof -i shows which programs hold them; end some")

"""The sockets that servers listen on."""

from __future__ import annotations

import errno
import socket

from digits.errors import MissingError

# Bytes of a response that the kernel holds for a client that reads slowly (it doubles the number).
SEND_BUFFER = 64 * 1024


def bind(host: str, port: int, setting: str) -> socket.socket:
    """Return a socket that is bound to a host and port (0: any free one), but does not listen yet; `::` includes IPv4.

    Raises:
        MissingError: the host or the port cannot be used; the remedy names the `setting` that chooses another port.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if host == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # Connections inherit both.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        sock.bind(address)
    except (OSError, UnicodeError) as exc:  # UnicodeError: the host has a part of more than 63 letters, or an empty one
        remedies = {
            errno.EADDRINUSE: f"stop the program that uses it (lsof -i :{port}, on Linux ss -ltnp; digits doctor lists "
            f"your own), or set {setting}",
            errno.EACCES: f"set {setting} to a port of 1024 or more",
        }
        raise MissingError(
            f"port {port} on {host!r} cannot be used: {getattr(exc, 'strerror', None) or 'it is not a host name'}",
            remedy=remedies.get(getattr(exc, "errno", None) or 0, "give an address of this machine as --host"),
        ) from exc
    return sock

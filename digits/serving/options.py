"""How the predictor serves: what it is called, where it listens, which release."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from digits.errors import MissingError


@dataclass(frozen=True)
class Options:
    """How to serve. Without `model_dir` the champion of the settings' store is followed, or `release` pinned.

    `host` is an address or a name of IPv4 or IPv6, of which the first is taken; `::` is IPv6 alone over REST.
    """

    name: str = "digits"
    host: str = "127.0.0.1"
    http_port: int = 8080
    grpc_port: int = 8081
    model_dir: Path | None = None
    release: str = ""


def check_ports(options: Options) -> None:
    """Raise MissingError if a port is taken; who holds it is left alone."""
    for variable, port in (("DIGITS_PORT", options.http_port), ("DIGITS_GRPC_PORT", options.grpc_port)):
        try:
            family, kind, _, _, address = socket.getaddrinfo(options.host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as exc:
            raise MissingError(
                f"port {port} on {options.host} cannot be used: {exc.strerror}",
                remedy=f"stop what holds it (lsof -i :{port}, on Linux ss -ltnp; digits doctor knows your own), "
                f"or set {variable}",
            ) from exc

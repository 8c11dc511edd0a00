"""KServe's ModelServer with our model in it, our application in front of it, and an address of our choice.

Import this late and only in the predictor: importing kserve reads sys.argv and takes over a second.
"""

from __future__ import annotations

import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from digits.errors import MissingError
from digits.serving.model import load

if TYPE_CHECKING:
    from digits.settings import Settings


@dataclass(frozen=True)
class Options:
    """How to serve. Without `model_dir` the champion of the settings' store is followed, or `release` pinned."""

    name: str = "digits"
    host: str = "127.0.0.1"
    http_port: int = 8080
    grpc_port: int = 8081
    workers: int = 1
    model_dir: Path | None = None
    release: str = ""


def check_ports(options: Options) -> None:
    """Raise MissingError if a port is taken; who holds it is left alone."""
    for variable, port in (("DIGITS_PORT", options.http_port), ("DIGITS_GRPC_PORT", options.grpc_port)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((options.host, port))
            except OSError as exc:
                raise MissingError(
                    f"port {port} on {options.host} cannot be used: {exc.strerror}",
                    remedy=f"stop what holds it (ss -ltnp 'sport = :{port}'), or set {variable}",
                ) from exc


def run(options: Options, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight are answered first.

    Raises:
        ReleaseError: `model_dir` holds no intact release.
        MissingError: a port is taken.
    """
    check_ports(options)
    if options.model_dir:
        load(options.model_dir)  # say what is wrong before a server is up
    sys.argv = sys.argv[:1]
    from digits.serving import kserve_model

    kserve_model.serve(options, settings)

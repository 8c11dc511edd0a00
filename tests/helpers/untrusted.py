"""A server whose certificate no authority of this machine has signed."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def untrusted_server(folder: Path) -> Iterator[str]:
    """Yield host:port of a server that closes each connection after the TLS handshake; `folder` gets its files."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-keyout", str(key)]
    subprocess.run([*command, "-out", str(certificate)], check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as plain, context.wrap_socket(plain, server_side=True) as server:
        threading.Thread(target=hang_up, args=(server,), daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


def hang_up(server: socket.socket) -> None:
    """Close each connection of a server immediately, until the server is closed."""
    while server.fileno() >= 0:
        with contextlib.suppress(OSError):
            server.accept()[0].close()

"""The server of the page: the socket that it listens on."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from digits.errors import MissingError
from digits.settings import Settings
from tests.helpers.asgi_server import asgi_server
from tests.helpers.standin import StandIn
from tests.helpers.support import has_ipv6
from web_app.server import listen


def test_a_port_in_use_is_reported(standin: StandIn, tmp_path: Path) -> None:
    """A port in use is an error that names it."""
    with asgi_server(standin.app) as url:
        port = int(url.rsplit(":", 1)[1])
        with pytest.raises(MissingError, match=f"port {port}"):
            listen(Settings(home=tmp_path), port=port)


@pytest.mark.parametrize(
    ("host", "address"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "::1"), ("::", "127.0.0.1")]
)
def test_it_listens_on_both_address_families(host: str, address: str, tmp_path: Path) -> None:
    """The page can listen on IPv4 and IPv6 addresses, and on both with `::`."""
    if ":" in host and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    with (
        listen(Settings(home=tmp_path), host, 0) as listener,
        socket.create_connection((address, listener.getsockname()[1]), timeout=10),
    ):
        pass

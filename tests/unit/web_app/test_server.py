"""The server of the page: the socket that it listens on."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from digits.errors import MissingError
from digits.settings import Settings
from tests.helpers.asgi_server import asgi_server
from tests.helpers.gateway_requests import correct
from tests.helpers.standin import StandIn
from tests.helpers.support import child_environment, free_port, has_ipv6
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


def test_a_store_that_hangs_does_not_keep_the_program(tmp_path: Path) -> None:
    """SIGTERM ends the page although a correction waits for a store that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as store:
        settings = Settings(
            home=tmp_path,
            store="s3://bucket",
            minio_endpoint=f"127.0.0.1:{store.getsockname()[1]}",
            minio_access_key="a",
            minio_secret_key="long-enough",
            web_port=free_port(),
        )
        command = [sys.executable, "-m", "digits", "web", "--no-open"]
        with subprocess.Popen(command, env=child_environment(settings), cwd=tmp_path) as process:
            try:
                url = f"http://127.0.0.1:{settings.web_port}"
                transport = httpx.HTTPTransport(retries=8)  # until it listens
                with httpx.Client(base_url=url, transport=transport, timeout=30) as page:
                    assert page.get("/healthz").status_code == 200
                    page.timeout = httpx.Timeout(2)
                    with pytest.raises(httpx.ReadTimeout):
                        correct(page)
                store.settimeout(10)
                connection, _ = store.accept()  # of the correction
                process.terminate()
                assert process.wait(20) == 0
                connection.close()
            finally:
                process.kill()

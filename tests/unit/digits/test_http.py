"""A request goes by way of the system's proxy, and a failed one is told in words, whatever class urllib3 gave it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import urllib3

from digits.errors import UsageError
from digits.http import in_words, pool_for, proxy_for
from tests.helpers.http_proxy import http_proxy
from tests.helpers.support import free_port

RETRIES = [False, urllib3.Retry(total=1, backoff_factor=0)]


def said(url: str, retries: urllib3.Retry | bool) -> str:
    """What comes of asking `url`."""
    with pytest.raises(urllib3.exceptions.HTTPError) as failed:
        urllib3.request("GET", url, retries=retries, timeout=0.3)
    return in_words(failed.value)


@pytest.mark.parametrize("retries", RETRIES, ids=["once", "again"])
def test_what_happened_is_said(retries: urllib3.Retry | bool) -> None:
    """No name, nobody there, nobody answering, and nonsense for an answer each have words of their own."""
    assert said("http://no-such-host.invalid/", retries) == "name does not resolve"
    assert said(f"http://127.0.0.1:{free_port()}/", retries) == "connection refused"
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        assert said(url, retries) == "timed out"
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        threading.Thread(target=_hang_up, args=(server,), daemon=True).start()
        assert said(url, retries).startswith("the connection broke off")


def _hang_up(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        connection.close()


def test_a_setting_that_is_no_address_is_shown() -> None:
    """What urllib3 cannot read as an address is said with the address."""
    assert said("http://[bad/", False) == "Failed to parse: http://[bad/"


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server; no proxy is set for it, and none ruled out."""
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Here) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/x"
        server.shutdown()
        thread.join()


class Here(BaseHTTPRequestHandler):
    """Says "here"."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"here")

    def log_message(self, *_: object) -> None:
        """Quiet."""


def got(url: str) -> tuple[int, bytes]:
    answer = pool_for(url).request("GET", url, retries=False, timeout=5)
    return answer.status, answer.data


def test_the_systems_proxy_is_asked(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY is taken with and without its scheme; what NO_PROXY names is asked directly."""
    with http_proxy() as between:
        assert got(address) == (200, b"here")
        assert between.asked == []
        for named in (between.url, between.url.removeprefix("http://")):
            monkeypatch.setenv("HTTP_PROXY", named)
            assert got(address) == (200, b"here")
        assert between.asked == [f"GET {address}"] * 2
        monkeypatch.setenv("NO_PROXY", "example.com,127.0.0.1")
        assert got(address) == (200, b"here")
        assert len(between.asked) == 2


def test_a_proxy_is_shown_the_name_in_its_address(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name and password of the proxy's address go to the proxy; a wrong one is refused in its own words."""
    with http_proxy("anna:p@ss word") as between:
        monkeypatch.setenv("HTTP_PROXY", between.url.replace("//", "//anna:p%40ss%20word@"))
        assert got(address) == (200, b"here")
        monkeypatch.setenv("HTTP_PROXY", between.url.replace("//", "//anna:wrong@"))
        assert got(address)[0] == 407
        monkeypatch.setenv("HTTPS_PROXY", between.url)
        with pytest.raises(urllib3.exceptions.HTTPError) as failed:
            got("https://kubeflow.invalid/")
        assert in_words(failed.value) == "the proxy: Tunnel connection failed: 407 Proxy Authentication Required"


@pytest.mark.parametrize("retries", RETRIES, ids=["once", "again"])
def test_a_proxy_that_is_away_is_named(
    retries: urllib3.Retry | bool, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it was the proxy that could not be reached is said, and why."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(urllib3.exceptions.HTTPError) as failed:
        pool_for(address).request("GET", address, retries=retries, timeout=5)
    assert in_words(failed.value) == "the proxy: connection refused"


@pytest.mark.parametrize("named", ["socks5://anna:canary@proxy:1080", "http://[canary", "http://", "http://canary:x"])
def test_a_proxy_that_is_none_is_refused(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no http address is refused by its variable's name, and not shown."""
    monkeypatch.setenv("HTTPS_PROXY", named)
    with pytest.raises(UsageError, match="HTTPS_PROXY: expected http://host:port") as refused:
        proxy_for("https://example.com/")
    assert "canary" not in str(refused.value)

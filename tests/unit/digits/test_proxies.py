"""Requests go through the proxy of the system, which may want a name and a password."""

from __future__ import annotations

from base64 import b64decode

import pytest
import urllib3

from digits.errors import UsageError
from digits.http import in_words
from digits.proxies import pool_for, proxy_for
from tests.helpers.forward_proxy import forward_proxy
from tests.helpers.support import answering, free_port


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy is set."""
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def get(url: str) -> tuple[int, bytes]:
    response = pool_for(url).request("GET", url, retries=False, timeout=5)
    return response.status, response.data


def test_the_proxy_of_the_system_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY may have a scheme or not; hosts in NO_PROXY are requested directly."""
    with forward_proxy() as proxy, answering(b"here") as host:
        url = f"http://{host}/x"
        assert get(url) == (200, b"here")
        assert proxy.requests == []
        for value in (proxy.url, proxy.url.removeprefix("http://")):
            monkeypatch.setenv("HTTP_PROXY", value)
            assert get(url) == (200, b"here")
        assert proxy.requests == [f"GET {url}"] * 2
        monkeypatch.setenv("NO_PROXY", "example.com,127.0.0.1")
        assert get(url) == (200, b"here")
        assert len(proxy.requests) == 2


def test_the_credentials_in_a_proxys_address_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name and password of the address go to the proxy; its refusal of wrong ones is reported."""
    with forward_proxy("anna:p@ss word") as proxy, answering(b"here") as host:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("//", "//anna:p%40ss%20word@"))
        assert get(f"http://{host}/x") == (200, b"here")
        monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("//", "//anna:wrong@"))
        assert get(f"http://{host}/x")[0] == 407
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(urllib3.exceptions.HTTPError) as failed:
            get("https://kubeflow.invalid/")
        assert in_words(failed.value) == "the proxy: Tunnel connection failed: 407 Proxy Authentication Required"


@pytest.mark.parametrize(("written", "sent"), [("anna:%E2%82%AC", "anna:€"), ("anna:p%C3%A4", "anna:pä")])
def test_credentials_may_have_any_letters(written: str, sent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy gets the bytes that the address states, as from curl."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://{written}@proxy:3128")
    proxy, headers = proxy_for("https://example.com/")
    assert proxy == "http://proxy:3128"
    assert b64decode(headers["proxy-authorization"].removeprefix("Basic ")).decode() == sent


def test_a_host_with_its_port_is_excluded(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_PROXY may name a host with a port, as for curl; other ports of the host are requested through the proxy."""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", "minio.example:9000,::1")
    assert proxy_for("http://minio.example:9000/x") == ("", {})
    assert proxy_for("http://[::1]:9000/x") == ("", {})
    assert proxy_for("http://minio.example:9001/x") == ("http://proxy:3128", {})


@pytest.mark.parametrize(
    ("url", "direct"),
    [
        ("http://10.96.3.4:9000/x", True),
        ("http://172.16.0.9/x", True),
        ("http://[fd00::7]:9000/x", True),
        ("http://11.0.0.1/x", False),
        ("http://[fe80::7]/x", False),
        ("http://10.example.com/x", False),
    ],
)
def test_a_network_is_excluded(url: str, direct: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_PROXY may name networks, as those of a cluster's pods and Services."""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", "localhost, 10.0.0.0/8,172.16.0.1/12,fd00::/8,.example.org")
    assert (proxy_for(url) == ("", {})) == direct


@pytest.mark.parametrize("retries", [False, urllib3.Retry(total=1, backoff_factor=0)], ids=["once", "again"])
def test_an_unreachable_proxy_is_named(retries: urllib3.Retry | bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error states that the proxy could not be reached, and why."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    with answering() as host, pytest.raises(urllib3.exceptions.HTTPError) as failed:
        pool_for(f"http://{host}").request("GET", f"http://{host}/x", retries=retries, timeout=5)
    assert in_words(failed.value) == "the proxy: connection refused"


@pytest.mark.parametrize("value", ["socks5://anna:canary@proxy:1080", "http://[canary", "http://", "http://canary:x"])
def test_an_address_that_is_no_http_proxy_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the variable and does not show its value, which may hold a password."""
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(UsageError, match="HTTPS_PROXY: expected http://host:port") as refused:
        proxy_for("https://example.com/")
    assert "canary" not in str(refused.value)
    assert ("a SOCKS proxy, which is not supported" in refused.value.message) == value.startswith("socks")

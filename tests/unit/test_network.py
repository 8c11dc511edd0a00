"""A failed request is told in words, whatever class urllib3 gave it."""

from __future__ import annotations

import socket
import threading

import pytest
import urllib3
from support import free_port

from digits.network import in_words

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

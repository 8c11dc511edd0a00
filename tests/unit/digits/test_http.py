"""Requests end in time, with limited memory, and the reason of a failure is in plain words."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import urllib3

from digits import http
from digits.http import in_words, request, request_json, tls_remedy
from tests.helpers.support import DRIPS, answering, dripping, free_port
from tests.helpers.untrusted import hang_up, untrusted_server

RETRIES = [None, False, urllib3.Retry(total=1, backoff_factor=0)]


def failure(url: str, retries: urllib3.Retry | bool | None) -> str:
    """Return why a request fails: one of ours (None), or one of urllib3 with or without retries."""
    if retries is None:
        try:
            request(url, seconds=0.3)
        except OSError as exc:
            return str(exc)
        pytest.fail("the request succeeded")
    with pytest.raises(urllib3.exceptions.HTTPError) as failed:
        urllib3.request("GET", url, retries=retries, timeout=0.3)
    return in_words(failed.value)


@pytest.mark.parametrize("retries", RETRIES, ids=["ours", "once", "again"])
def test_each_reason_has_its_words(retries: urllib3.Retry | bool | None) -> None:
    """An unknown name, a closed port, a silent server and one that does not speak HTTP have different messages."""
    assert failure("http://no-such-host.invalid/", retries) == "name does not resolve"
    assert failure(f"http://127.0.0.1:{free_port()}/", retries) == "connection refused"
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        assert failure(url, retries) == "timed out"
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        threading.Thread(target=hang_up, args=(server,), daemon=True).start()
        assert failure(url, retries).startswith("the connection broke off")


@pytest.mark.parametrize("retries", [None, False], ids=["ours", "once"])
def test_an_invalid_address_is_shown(retries: bool | None) -> None:
    """The error shows an address that cannot be parsed."""
    assert "http://[bad/" in failure("http://[bad/", retries)


def test_an_address_of_another_scheme_is_refused() -> None:
    """Only http:// and https:// addresses are requested."""
    assert "ftp" in failure("ftp://127.0.0.1/", None)


def test_an_unknown_certificate_is_refused(tmp_path: Path) -> None:
    """A certificate that no authority signed fails with the reason."""
    with (
        untrusted_server(tmp_path) as host,
        pytest.raises(OSError, match=r"TLS failed: .*CERTIFICATE_") as error,
    ):
        request(f"https://{host}/")
    assert "SSL_CERT_FILE" in tls_remedy(error.value)


def test_https_without_tls_has_a_remedy() -> None:
    """https:// for a server without TLS is corrected to http://; another failure has no remedy of TLS."""
    with answering() as host, pytest.raises(OSError, match="TLS failed") as error:
        request(f"https://{host}/")
    assert "http://" in tls_remedy(error.value)
    assert not tls_remedy(OSError("connection refused"))


def test_a_response_is_returned_whatever_its_status_is() -> None:
    """A 404 is a response with its content; request_json makes an error of it that shows both."""
    with answering(b'{"a": 1}', 404) as host:
        response = request(f"http://{host}/x")
        assert (response.status, response.content) == (404, b'{"a": 1}')
        with pytest.raises(OSError, match=r'/x: HTTP 404: \{"a": 1\}'):
            request_json(f"http://{host}/x")
    with answering(b'{"a": 1}') as host:
        assert request_json(f"http://{host}/x") == {"a": 1}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("part", DRIPS)
def test_a_response_that_never_ends_is_cut_at_the_deadline(part: str) -> None:
    """A head or a body that arrives byte by byte is an error after the given seconds."""
    start = time.monotonic()
    with dripping(DRIPS[part]) as host, pytest.raises(OSError, match=rf"^http://{host}/x: timed out$"):
        request_json(f"http://{host}/x", seconds=0.5)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("wait", ["name", "handshake"])
def test_the_deadline_includes_the_connection(wait: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver or a TLS handshake that does not end is an error after the given seconds."""
    if wait == "name":
        monkeypatch.setattr("socket.getaddrinfo", lambda *_: threading.Event().wait(20))
    start = time.monotonic()
    with dripping(b"\x16\x03\x03\x40\x00") as host, pytest.raises(OSError, match=r"^timed out$"):
        request(f"https://{host}/x", seconds=0.5)
    assert time.monotonic() - start < 5


def test_a_response_that_is_too_large_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading stops at MAX_BYTES."""
    monkeypatch.setattr(http, "MAX_BYTES", 1000)
    with answering(bytes(5000)) as host, pytest.raises(OSError, match="sent more than 1000 bytes"):
        request(f"http://{host}/x")


RECORDED = """
import sys, threading
start, missing = threading.Thread.start, set()
def record(thread):
    missing.update({shared} - sys.modules.keys())
    start(thread)
threading.Thread.start = record
{action}
print(sorted(missing))
"""


DOCTOR = """
from digits.cli import doctor
from digits.settings import Settings
next(finding for finding in doctor.run_checks(Settings.load(dotenv=None)) if finding.name == "leftovers")
"""
MIRRORS = """
import dataclasses
from digits.data import download
from digits.tasks import task
download.find_mirror(dataclasses.replace(task.find("digits").data, mirrors=("http://127.0.0.1:9",)))
"""


@pytest.mark.parametrize(
    ("shared", "action"),
    [({"urllib3", "requests", "docker", "numpy"}, DOCTOR), ({"urllib3"}, MIRRORS)],
    ids=["doctor", "mirrors"],
)
def test_threads_find_the_packages_that_they_share_imported(shared: set[str], action: str, tmp_path: Path) -> None:
    """The packages that several threads need are imported before these start, or the threads could wait forever."""
    program = RECORDED.format(shared=shared, action=action)
    environment = os.environ | {"DIGITS_HOME": str(tmp_path), "DIGITS_DATA": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"

"""Limits for answers that other libraries read: time and size of each part, of retries and of several requests."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3

from digits import answers
from tests.helpers.impostor import Impostor
from tests.helpers.support import DRIPS, answering, dripping

ERRORS = (urllib3.exceptions.HTTPError, requests.exceptions.RequestException)
GETS: dict[str, Callable[[str], Any]] = {
    "urllib3": lambda url: urllib3.PoolManager(retries=urllib3.Retry(1, status_forcelist=[503])).request("GET", url),
    "requests": lambda url: requests.get(url, timeout=5),
    "requests, streamed": lambda url: list(requests.get(url, timeout=5, stream=True).iter_content(65536)),
}


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ANSWER_SECONDS", 0.3), ("STREAM_SECONDS", 0.3), ("MAX_ANSWER", 1000), ("MAX_STREAM", 9999)):
        monkeypatch.setattr(answers, name, value)
    answers.limit_requests()


@pytest.mark.parametrize("get", GETS)
@pytest.mark.parametrize("part", DRIPS)
def test_an_answer_that_trickles_in_is_given_up(part: str, get: str) -> None:
    """Head and body each have a deadline, though a byte arrives now and then."""
    began = time.monotonic()
    with dripping(DRIPS[part]) as host, pytest.raises(ERRORS):
        GETS[get](f"http://{host}/")
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("get", GETS)
@pytest.mark.parametrize("status", [200, 404, 503])
def test_an_answer_that_is_too_long_is_not_read(status: int, get: str) -> None:
    """A body has a limit, as it is sent and unpacked, also that of an error and of an answer before a retry."""
    long = gzip.compress(bytes(1_000_000)) + bytes(20_000)
    with answering(long, status) as host, pytest.raises(ERRORS):
        GETS[get](f"http://{host}/")


@pytest.mark.parametrize("get", GETS)
@pytest.mark.parametrize("body", [b"", b"x" * 1000])
def test_other_answers_are_unchanged(body: bytes, get: str) -> None:
    """An answer within the limits has its whole body."""
    with answering(body) as host:
        answer = GETS[get](f"http://{host}/")
    assert b"".join([answer.content] if get == "requests" else [answer.data] if get == "urllib3" else answer) == body


def test_requests_together_have_a_limit() -> None:
    """Requests of one call, such as the pages of a listing without an end, have a deadline together."""
    with answering(b"x") as host, answers.within(0.5):
        pool = urllib3.PoolManager()
        pool.request("GET", f"http://{host}")
        time.sleep(0.5)
        with pytest.raises(urllib3.exceptions.HTTPError, match="timed out"):
            pool.request("GET", f"http://{host}")


def test_a_stream_with_a_limit_of_time_has_none_of_size() -> None:
    """An image of gigabytes can be exported within its own time."""
    with answering(bytes(20_000)) as host, answers.within(5):
        assert sum(map(len, GETS["requests, streamed"](f"http://{host}/"))) == 20_000


def test_an_odd_head_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """urllib3 would log a head with a line that is no field, with a traceback that a user would see."""
    headers = [b": no name", b"no colon"]
    with Impostor(1, lambda *_: (headers, b"x"), wrong=0).serve() as host:
        GETS["urllib3"](f"http://{host}/")
    assert [record for record in caplog.records if record.exc_info] == []


def test_a_netrc_of_another_encoding_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of credentials that is not UTF-8 is no fault of the server that is asked."""
    (tmp_path / "netrc").write_bytes(b"machine \xff login me password mine\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with answering(b"fine") as host:
        assert requests.get(f"http://{host}/", timeout=5).content == b"fine"

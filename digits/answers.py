"""Limits for the answers that other libraries read through urllib3 and requests.

urllib3's timeout is for each read. A head that trickles in has no limit, a body of any length is read into memory, and
an answer that is not used (before a retry) is read too. The clients of S3, MLflow, Kubeflow Pipelines and Docker build
their connections themselves, so the limits are set in the classes that all of them use.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import urllib3

from digits.http import read_whole

ANSWER_SECONDS, MAX_ANSWER = 60.0, 16 << 20  # of a whole answer, in bytes; a listing of 1,000 keys has some 300 KB
STREAM_SECONDS, MAX_STREAM = 600.0, 1 << 30  # of an answer that is streamed


_until: ContextVar[float] = ContextVar("until", default=0.0)  # of time.monotonic(); 0 outside `within`


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Limit the time of all requests of the block together. An answer that is streamed in it may have any size."""
    token = _until.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _until.reset(token)


class _Wire(io.RawIOBase):
    """The bytes that a socket receives: at most `max_bytes`, and until time.monotonic() is `until`."""

    def __init__(self, raw: Any) -> None:
        self._raw, self._sock, self._length = raw, raw._sock, 0  # noqa: SLF001 # Docker's client uses `_sock`
        self.until = min(time.monotonic() + ANSWER_SECONDS, _until.get() or float("inf"))
        self.max_bytes = float(MAX_STREAM)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count: int | None = self._raw.readinto(buffer)
        self._length += count or 0
        if self._length > self.max_bytes:
            raise OSError(f"sent more than {MAX_STREAM} bytes")
        if time.monotonic() > self.until:
            raise TimeoutError("timed out")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """A response whose head is complete in ANSWER_SECONDS, and in the time of `within`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._wire = _Wire(self.fp.detach())
        self.fp = io.BufferedReader(self._wire)

    def begin(self) -> None:
        super().begin()
        if until := _until.get():
            self._wire.until, self._wire.max_bytes = until, float("inf")
        else:
            self._wire.until = time.monotonic() + STREAM_SECONDS


class _Whole(urllib3.HTTPResponse):
    """A response whose body was read."""


@functools.cache
def limit_urllib3() -> None:
    """Limit the answers that urllib3 reads: the time of a head, and the time and size of a body that is not streamed.

    A body that its caller would stream is not limited in time if the status is 200 or 206.
    """
    send = urllib3.PoolManager.urlopen

    def urlopen(pool: Any, method: str, url: str, redirect: bool = True, **options: Any) -> urllib3.BaseHTTPResponse:
        now, preload = time.monotonic(), options.pop("preload_content", True)
        if now > (_until.get() or now):
            raise urllib3.exceptions.HTTPError("timed out")
        until = now + ANSWER_SECONDS
        try:
            response = send(pool, method, url, redirect, preload_content=False, **options)
        except ValueError as exc:  # of urlsplit or urllib3, for an address to which the server redirects
            raise urllib3.exceptions.HTTPError(f"not a web address: {exc}") from exc
        if isinstance(response, _Whole) or (not preload and response.status in {200, 206}):
            return response
        body = read_whole(response, until, MAX_ANSWER)
        response.release_conn()
        return _Whole(
            io.BytesIO(body),
            response.headers,
            response.status,
            reason=response.reason,
            retries=response.retries,
            preload_content=False,
            decode_content=False,  # it is unpacked
            enforce_content_length=False,
        )

    urllib3.connection.HTTPConnection.response_class = _Response
    urllib3.HTTPResponse.drain_conn = urllib3.HTTPResponse.close  # type: ignore[method-assign]
    urllib3.PoolManager.urlopen = urlopen  # type: ignore[assignment, method-assign]


@functools.cache
def limit_requests() -> None:
    """Limit the answers that requests reads, as `limit_urllib3` does, and ignore a ~/.netrc that is not UTF-8.

    requests ignores one that is damaged otherwise.
    """
    import requests

    limit_urllib3()
    send = requests.adapters.HTTPAdapter.send

    def limited(adapter: Any, request: Any, stream: bool = False, *args: Any, **options: Any) -> Any:
        until = time.monotonic() + ANSWER_SECONDS
        response: Any = send(adapter, request, stream, *args, **options)
        if not stream or response.status_code >= 400:
            response.raw.decode_content = True
            try:
                response._content = read_whole(response.raw, until, MAX_ANSWER)  # noqa: SLF001
            except (OSError, urllib3.exceptions.HTTPError) as exc:
                response.close()
                raise requests.exceptions.ConnectionError(exc, request=request) from exc
            response._content_consumed = True  # noqa: SLF001
            response.raw.release_conn()
        return response

    find_credentials: Any = requests.utils.get_netrc_auth

    def credentials(*args: Any, **options: Any) -> Any:
        with contextlib.suppress(UnicodeDecodeError):
            return find_credentials(*args, **options)

    requests.sessions.get_netrc_auth = credentials
    requests.adapters.HTTPAdapter.send = limited  # type: ignore[assignment, method-assign]

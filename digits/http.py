"""Requests over HTTP that end in time, whoever answers: the way to an address, and what is said where one failed.

urllib3 knows nothing of the system's proxies, bounds each read and not the whole, and its errors name its own parts.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from digits.errors import UsageError

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

MOST_BYTES = 16 * 1024 * 1024  # of an answer of ours: a thousand times what it usually has


@dataclass(frozen=True)
class Reply:
    """What a server answered, whatever its status is."""

    status: int
    headers: Mapping[str, str]
    content: bytes


def ask(
    url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None, *, seconds: float = 10.0
) -> Reply:
    """GET, or POST `body`, within so many seconds in all, and at most MOST_BYTES of an answer. Follows no redirect.

    Raises:
        OSError: no whole answer came; says what happened.
    """
    import urllib3

    until = time.monotonic() + seconds
    made: list[Any] = []

    def cut() -> None:
        for connection in made:
            with contextlib.suppress(OSError, AttributeError):  # it may be closed, or not open yet
                connection.sock.shutdown(socket.SHUT_RDWR)

    # urllib3's own limit is for each read, so that a head of which a byte comes now and then would be read for ever.
    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        with urllib3.PoolManager() as manager:
            pool = manager.connection_from_url(url)
            kind: Any = pool.ConnectionCls

            def connection(**options: Any) -> Any:
                made.append(kind(**options))
                return made[-1]

            pool.ConnectionCls = connection  # type: ignore[assignment]
            answer = pool.urlopen(
                "GET" if body is None else "POST",
                urllib3.util.parse_url(url).request_uri,
                body,
                headers,
                retries=False,
                redirect=False,
                timeout=seconds,
                preload_content=False,
            )
            return Reply(answer.status, answer.headers, read_whole(answer, until, MOST_BYTES))
    except (urllib3.exceptions.HTTPError, OSError) as exc:
        raise OSError("timed out" if time.monotonic() >= until else in_words(exc)) from exc
    finally:
        timer.cancel()


def read_whole(answer: BaseHTTPResponse, until: float, most: int) -> bytes:
    """The body of an answer that was not preloaded, until a time of time.monotonic().

    Raises:
        OSError: it took longer, or is more than `most` bytes; says which.
        urllib3.exceptions.HTTPError: it broke off.
    """
    raw, block = bytearray(), b"-"
    while block:
        # read1, because a whole block from a server that sends a byte now and then may never be there.
        block = answer.read1(1 << 16)
        raw += block
        if len(raw) > most:
            raise OSError(f"sent more than {most} bytes")
        if time.monotonic() >= until:  # also where it ended, for it may have been cut
            raise TimeoutError("timed out")
    return bytes(raw)


def bearer(token: str) -> dict[str, str]:
    """The header that shows a token; none where there is none."""
    return {"Authorization": f"Bearer {token}"} if token else {}


def bracketed(host: str) -> str:
    """A host as it stands before a port: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def pool_for(url: str) -> PoolManager:
    """What asks for `url`, by way of its proxy if it has one. Raises UsageError as `proxy_for`."""
    import urllib3

    proxy, headers = proxy_for(url)
    return urllib3.ProxyManager(proxy, proxy_headers=headers) if proxy else urllib3.PoolManager()


def proxy_for(url: str) -> tuple[str, dict[str, str]]:
    """The proxy that the system names for `url` and the headers that show our name there; ("", {}) for none.

    It is named by HTTP_PROXY, HTTPS_PROXY and NO_PROXY, also in small letters, else by the settings of macOS.

    Raises:
        UsageError: it is no address, or of another kind than http:// and https://.
    """
    from urllib.request import getproxies, proxy_bypass

    from urllib3.exceptions import LocationParseError
    from urllib3.util import make_headers, parse_url

    parts = urlsplit(url)
    named = getproxies().get(parts.scheme)
    if not named or proxy_bypass(parts.hostname or ""):
        return "", {}
    try:
        proxy = parse_url(named if "://" in named else f"http://{named}")
    except LocationParseError:
        proxy = parse_url("")
    if proxy.scheme not in {"http", "https"} or not proxy.host:
        # The value is not shown: it may hold a password.
        raise UsageError(
            f"{parts.scheme.upper()}_PROXY: expected http://host:port, got something else",
            remedy="correct it, or name the host in NO_PROXY",
        )
    headers = make_headers(proxy_basic_auth=unquote(proxy.auth)) if proxy.auth else {}
    return proxy._replace(auth=None).url, dict(headers)


def in_words(error: Exception) -> str:
    """What an error of urllib3 says happened: "connection refused", "name does not resolve", "timed out"."""
    from urllib3 import exceptions

    if isinstance(error, exceptions.MaxRetryError) and error.reason:
        error = error.reason  # of the last attempt
    if isinstance(error, exceptions.ProxyError):
        return f"the proxy: {in_words(error.original_error)}"
    if isinstance(error, exceptions.NameResolutionError):
        return "name does not resolve"
    if isinstance(error, exceptions.NewConnectionError):  # to urllib3 a timeout too, whatever the system said
        return (getattr(error.__cause__, "strerror", None) or "no connection").lower()
    if isinstance(error, exceptions.TimeoutError):
        return "timed out"
    if isinstance(error, exceptions.SSLError):
        return f"TLS failed: {error}"
    if isinstance(error, exceptions.ProtocolError):
        return "the connection broke off, or what answers speaks no HTTP"
    return str(error)

"""HTTP requests with a deadline for the whole request, and error messages in plain words.

urllib3 limits the time of each read, not of the request, and its error messages contain class names.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from digits.errors import MASK, UsageError, mask_address
from digits.files import parse_json

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

logging.getLogger("urllib3.connection").setLevel(logging.ERROR)  # it logs a head with an odd line with a traceback

MAX_BYTES = 16 * 1024 * 1024  # per response: about a thousand times the usual size
SECONDS = 5.0


@dataclass(frozen=True)
class Response:
    """A server's response with any status."""

    status: int
    headers: Mapping[str, str]
    content: bytes


def before_threads(*names: str) -> None:
    """Import the packages `names`, as far as they are installed, before several threads need them.

    If one thread imports a package while another one imports a module of it, each can wait for the other: Python raises
    a _DeadlockError in one of them, and the other can wait forever.
    """
    for name in names:
        with contextlib.suppress(ImportError):  # reported where it is needed
            importlib.import_module(name)


def request(
    url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None, *, seconds: float = SECONDS
) -> Response:
    """Send a GET request, or POST `body`, without a proxy and without following redirects.

    The response must be complete within `seconds` and have at most MAX_BYTES.

    Raises:
        OSError: there was no complete response; states the reason.
    """
    import urllib3

    until = time.monotonic() + seconds
    result: Future[Response] = Future()
    connection: Any = None

    def exchange() -> None:
        try:
            with contextlib.closing(connection):
                connection.connect()
                if time.monotonic() >= until:  # the caller has given up
                    return
                path = urllib3.util.parse_url(url).request_uri
                connection.request("GET" if body is None else "POST", path, body, headers, preload_content=False)
                response = connection.getresponse()
                content = read_whole(response, until, MAX_BYTES)
                result.set_result(Response(response.status, response.headers, content))
        except Exception as exc:  # noqa: BLE001 # raised in the caller's thread
            result.set_exception(exc)

    try:
        pool = urllib3.PoolManager().connection_from_url(url)
        connection = pool.ConnectionCls(host=pool.host, port=pool.port, timeout=seconds)
        # In a thread, because neither the resolution of the name, nor the TLS handshake, nor the headers have a limit.
        threading.Thread(target=exchange, daemon=True).start()
        return result.result(seconds)
    except (urllib3.exceptions.HTTPError, HTTPException, OSError) as exc:
        with contextlib.suppress(OSError, AttributeError):  # it may be closed, or not be open yet
            connection.sock.shutdown(socket.SHUT_RDWR)  # which ends the thread
        raise OSError("timed out" if time.monotonic() >= until else in_words(exc)) from exc


def request_json(url: str, body: Any = None, *, token: str = "", seconds: float = SECONDS) -> Any:
    """Send a GET request, or POST `body` as JSON; return the parsed response.

    Raises:
        OSError: there was no complete response, or its status was not 200; states the address and the reason.
        ValueError: the response is not JSON.
    """
    content = None if body is None else json.dumps(body).encode()
    try:
        response = request(url, content, {"Content-Type": "application/json"} | bearer(token), seconds=seconds)
    except OSError as exc:
        raise OSError(f"{url}: {exc}") from exc
    if response.status != 200:
        raise OSError(f"{url}: HTTP {response.status}: {excerpt(response.content, token)}")
    return parse_json(response.content)


def excerpt(content: bytes, token: str) -> str:
    """Return the beginning of a response for an error message, with our token masked, which some servers repeat."""
    secret = token.encode()
    return (content.replace(secret, MASK.encode()) if secret else content)[:200].decode(errors="replace")


def read_whole(response: BaseHTTPResponse, until: float, max_bytes: int) -> bytes:
    """Return the body of a response that was not preloaded. Raises as `read_blocks`."""
    return b"".join(read_blocks(response, until, max_bytes))


def read_blocks(response: BaseHTTPResponse, until: float, max_bytes: int) -> Iterator[bytes]:
    """Yield the body of a response that was not preloaded. Read until time.monotonic() is `until` at the latest.

    Raises:
        urllib3.exceptions.HTTPError: the connection broke, or the body took longer or has more than `max_bytes`.
    """
    from urllib3.exceptions import HTTPError

    length, block = 0, b"-"
    while block:
        # read would wait for a whole block, even if the server sends only a byte now and then.
        block = response.read1(1 << 20)
        length += len(block)
        late = time.monotonic() >= until  # also after the last block: the deadline may have ended the response
        if late or length > max_bytes:
            response.close()
            raise HTTPError("timed out" if late else f"sent more than {max_bytes} bytes")
        yield block


def base_url(text: str) -> str:
    """Return an http(s) address to which a path can be appended: without a slash at its end.

    Raises:
        UsageError: it is something else, or it has user info, a query or a fragment.
    """
    try:
        parts = urlsplit(text)
        valid = parts.scheme in {"http", "https"} and parts.hostname and (parts.port or 1)
    except ValueError:
        valid = False
    if not valid or not text.isprintable() or set(text) & set(" ?#@\\"):
        raise UsageError(
            f"expected an address http(s)://host[:port][/path], got {mask_address(text)!r}",
            remedy="give the endpoint's address without a query; DIGITS_ENDPOINT_TOKEN is for its token",
        )
    return text.rstrip("/")


def bearer(token: str) -> dict[str, str]:
    """Return the header that sends a bearer token; {} if there is no token."""
    return {"Authorization": f"Bearer {token}"} if token else {}


def bracketed(host: str) -> str:
    """Return a host in the form for URLs: an IPv6 address is put in brackets."""
    return f"[{host}]" if ":" in host else host


def tls_remedy(error: object, variable: str = "SSL_CERT_FILE") -> str:
    """Return what to try after an error, or its text, of a TLS handshake; '' after any other error.

    `variable` names the file of the certificate authorities that the client trusts.
    """
    text = str(error).lower().replace("_", " ")
    if "certificate verify failed" in text:
        return (
            "use a host name that the server's certificate is for, or renew it; if an authority of your own signed it, "
            f"set {variable} to a file with the authority's certificate"
        )
    if "wrong version number" in text or "record layer failure" in text:
        return "write http:// if the server has no TLS, or correct the port"
    return ""


def in_words(error: Exception) -> str:
    """Return the reason for a failed request in words, for example "connection refused" or "timed out"."""
    from urllib3 import exceptions

    if isinstance(error, exceptions.MaxRetryError) and error.reason:
        error = error.reason  # of the last attempt
    if isinstance(error, exceptions.ProxyError):
        return f"the proxy: {in_words(error.original_error)}"
    if isinstance(error, exceptions.NameResolutionError):
        return "name does not resolve"
    if isinstance(error, exceptions.NewConnectionError):  # urllib3 calls it a timeout, whatever the system reported
        return (getattr(error.__cause__, "strerror", None) or "no connection").lower()
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        return "timed out"
    if isinstance(error, exceptions.SSLError | ssl.SSLError):
        return f"TLS failed: {error}"
    if isinstance(error, exceptions.ProtocolError | HTTPException | ConnectionError):
        return "the connection broke off, or the server does not speak HTTP"
    return str(error)

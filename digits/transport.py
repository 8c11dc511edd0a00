"""Requests over HTTP: the way by which an address is reached, and what is said where one failed.

urllib3 knows nothing of the system's proxies, and its errors name its own parts; a person wants to know what happened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from digits.errors import UsageError

if TYPE_CHECKING:
    from urllib3 import PoolManager


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

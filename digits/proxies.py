"""The system's proxies, which urllib3 does not use by default."""

from __future__ import annotations

import contextlib
import ipaddress
from base64 import b64encode
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes, urlsplit

from digits.errors import UsageError

if TYPE_CHECKING:
    from urllib3 import PoolManager


def pool_for(url: str) -> PoolManager:
    """Return a urllib3 pool for `url`, through its proxy if it has one. Raises UsageError as `proxy_for`."""
    import urllib3

    from digits.answers import limit_urllib3

    limit_urllib3()
    proxy, headers = proxy_for(url)
    return urllib3.ProxyManager(proxy, proxy_headers=headers) if proxy else urllib3.PoolManager()


def proxy_for(url: str) -> tuple[str, dict[str, str]]:
    """Return the system's proxy for `url` and its authentication headers; ("", {}) if there is none.

    The proxy is that of HTTP_PROXY, HTTPS_PROXY and NO_PROXY (in upper or lower case), else of the settings of macOS.
    NO_PROXY may name hosts, a host with its port, and networks such as 10.0.0.0/8.

    Raises:
        UsageError: the proxy's address is not a valid http:// or https:// address.
    """
    from urllib.request import getproxies, getproxies_environment, proxy_bypass

    parts = urlsplit(url)
    address = getproxies().get(parts.scheme)
    host, host_and_port = parts.hostname or "", parts.netloc.rpartition("@")[2]
    if not address or proxy_bypass(host) or proxy_bypass(host_and_port):
        return "", {}
    if _is_in_network(host, getproxies_environment().get("no", "")):
        return "", {}
    return parse_proxy(f"{parts.scheme.upper()}_PROXY", address, "correct it, or name the host in NO_PROXY")


def parse_proxy(name: str, address: str, remedy: str) -> tuple[str, dict[str, str]]:
    """Return a proxy's address and its authentication headers. `name` and `remedy` are for the error.

    Raises:
        UsageError: it is not a valid http:// or https:// address.
    """
    from urllib3.exceptions import LocationParseError
    from urllib3.util import parse_url

    try:
        proxy = parse_url(address if "://" in address else f"http://{address}")
    except LocationParseError:
        proxy = parse_url("")
    if proxy.scheme not in {"http", "https"} or not proxy.host:
        # The value is not shown: it may hold a password.
        found = "something else"
        if (proxy.scheme or "").startswith("socks"):
            found = "a SOCKS proxy, which is not supported"
            remedy = "name an HTTP proxy, or forward a port to the host (ssh -L) and use the address of that port"
        raise UsageError(f"{name}: expected http://host:port, got {found}", remedy=remedy)
    # Not urllib3's make_headers, which encodes Latin-1 letters as another password, and fails for all others.
    secret = b64encode(unquote_to_bytes(proxy.auth or "")).decode()
    return proxy._replace(auth=None).url, {"proxy-authorization": f"Basic {secret}"} if secret else {}


def _is_in_network(host: str, networks: str) -> bool:
    """Return whether a host is an address in one of the networks of NO_PROXY, which urllib does not know."""
    with contextlib.suppress(ValueError):  # a name
        address = ipaddress.ip_address(host)
        for text in networks.split(","):
            with contextlib.suppress(ValueError):  # a name
                if address in ipaddress.ip_network(text.strip(), strict=False):
                    return True
    return False

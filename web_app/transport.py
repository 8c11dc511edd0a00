"""The transport of requests to endpoints: their certificate authorities, and a limit for what an endpoint sends."""

from __future__ import annotations

import ssl
from typing import Any

import httpx

CONNECTIONS = 32  # per endpoint
MAX_RECEIVED = 128 * 1024  # bytes per connection; httpx skips any number of answers with a status 1xx


def load_certificates() -> ssl.SSLContext:
    """Return httpx's certificate authorities with those of the system, SSL_CERT_FILE and SSL_CERT_DIR.

    This takes a tenth of a second.
    """
    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()
    return context


def create_transport(certificates: ssl.SSLContext) -> httpx.AsyncHTTPTransport:
    """Return a transport that, unlike httpx's client, has no cookies and follows no redirects.

    Each request has a connection of its own, on which at most MAX_RECEIVED bytes are read; then httpx.ReadError is
    raised.
    """
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=0)
    transport = httpx.AsyncHTTPTransport(certificates, trust_env=False, limits=limits)
    pool = transport._pool  # noqa: SLF001 # httpx has no argument for httpcore's network
    pool._network_backend = _Network(pool._network_backend)  # type: ignore[assignment] # noqa: SLF001
    return transport


class _Network:
    """httpcore's network, whose connections have the limit."""

    def __init__(self, network: Any) -> None:
        self._network = network

    async def connect_tcp(self, *arguments: Any, **options: Any) -> _Stream:
        return _Stream(await self._network.connect_tcp(*arguments, **options))


class _Stream:
    """A connection with the limit."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._received = stream, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def start_tls(self, *arguments: Any, **options: Any) -> _Stream:
        return _Stream(await self._stream.start_tls(*arguments, **options))

    async def read(self, *arguments: Any, **options: Any) -> bytes:
        block: bytes = await self._stream.read(*arguments, **options)
        self._received += len(block)
        if self._received > MAX_RECEIVED:
            raise httpx.ReadError(f"more than {MAX_RECEIVED} bytes")
        return block

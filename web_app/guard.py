"""Limits on the gateway's requests, the security headers of its responses, and its counters."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECURITY_HEADERS = {
    # No inline code, nothing from other hosts; the page may send requests to this gateway only.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

log = logging.getLogger("digits.web")

# Bytes of all bodies that are being read or answered; a container has little memory.
MAX_HELD = 32 * 1024 * 1024


class Metrics:
    """The gateway's counters, in their own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "digits_web_requests", "Requests answered, by route and status", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "digits_web_recognise_seconds", "Time to recognise a drawing", ["endpoint"], registry=self.registry
        )
        self.feedback = Counter(
            "digits_web_feedback", "Corrections stored, by label", ["label"], registry=self.registry
        )


class Guard:
    """ASGI middleware that limits the size of bodies, adds the security headers and counts responses.

    It also answers unexpected exceptions, because Starlette's own 500 would bypass the headers and the counters.
    """

    def __init__(self, app: ASGIApp, *, max_body: int, metrics: Metrics) -> None:
        self.app, self.max_body, self.metrics = app, max_body, metrics
        self.held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        received, started = 0, False

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            size = len(message.get("body", b""))
            received += size
            self.held += size
            if received > self.max_body:  # a chunked body, without a length
                raise HTTPException(413, self._too_large())
            if self.held > MAX_HELD:
                raise HTTPException(503, "too many bytes are waiting", {"Retry-After": "1"})
            return message

        async def guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers.update(SECURITY_HEADERS)
                headers.setdefault("Cache-Control", "no-cache" if "etag" in headers else "no-store")
                # The route's pattern, not the path, because the number of counters must not grow with the requests.
                route = getattr(scope.get("route"), "path", "") or ("static" if message["status"] < 400 else "none")
                self.metrics.requests.labels(route, str(message["status"])).inc()
            await send(message)

        length = Headers(scope=scope).get("content-length", "0")
        if not length.isdigit() or int(length) > self.max_body:
            response = JSONResponse({"error": self._too_large()}, 413, {"Connection": "close"})
            await response(scope, receive, guarded)
            return
        try:
            await self.app(scope, limited, guarded)
        except Exception:
            if started:
                raise  # too late for another response: uvicorn logs the error and closes the connection
            log.exception("%s %r failed", scope["method"], scope["path"])
            response = JSONResponse({"error": "the page's server failed; its log says why"}, 500)
            await response(scope, receive, guarded)
        finally:
            self.held -= received

    def _too_large(self) -> str:
        return f"expected at most {self.max_body} bytes"


class RateLimit:
    """A token bucket per caller; the least recently seen callers are evicted."""

    def __init__(self, per_minute: int, *, callers: int = 1000) -> None:
        self.per_minute, self.callers = per_minute, callers
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # caller: (allowance, update time)

    def allows(self, caller: str, now: float | None = None) -> bool:
        """Return whether `caller` may act now, and count the action if so. `now` is in seconds of time.monotonic()."""
        now = time.monotonic() if now is None else now
        allowance, last = self._buckets.pop(caller, (float(self.per_minute), now))
        allowance = min(self.per_minute, allowance + (now - last) * self.per_minute / 60)
        allowed = allowance >= 1
        self._buckets[caller] = (allowance - allowed, now)
        if len(self._buckets) > self.callers:
            self._buckets.popitem(last=False)
        return allowed

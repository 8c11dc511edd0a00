"""What the gateway imposes on every exchange: limits on what comes in, security headers on what goes out, counts."""

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
    # Nothing inline, nothing from elsewhere; the page may talk to this gateway only.
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

# Of all bodies that are being read or answered: a container's memory is small.
MOST_HELD = 32 * 1024 * 1024


class Metrics:
    """The gateway's counters, in a registry of its own."""

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
    """ASGI middleware: refuses large bodies before reading them, and too many; adds the headers, counts the answers.

    What no handler expected is answered here too: Starlette's own 500 would go past the headers and the counts.
    """

    def __init__(self, app: ASGIApp, *, most_bytes: int, metrics: Metrics) -> None:
        self.app, self.most_bytes, self.metrics = app, most_bytes, metrics
        self.held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one exchange."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        came, begun = 0, False

        async def limited() -> Message:
            nonlocal came
            message = await receive()
            size = len(message.get("body", b""))
            came += size
            self.held += size
            if came > self.most_bytes:  # sent in chunks, without a length
                raise HTTPException(413, self._too_large())
            if self.held > MOST_HELD:
                raise HTTPException(503, "too many bytes are waiting", {"Retry-After": "1"})
            return message

        async def guarded(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                headers.update(SECURITY_HEADERS)
                headers.setdefault("Cache-Control", "no-cache" if "etag" in headers else "no-store")
                # The route's pattern, not the path: what people type must not grow the number of counters.
                route = getattr(scope.get("route"), "path", "") or ("static" if message["status"] < 400 else "none")
                self.metrics.requests.labels(route, str(message["status"])).inc()
            await send(message)

        length = Headers(scope=scope).get("content-length", "0")
        if not length.isdigit() or int(length) > self.most_bytes:
            refusal = JSONResponse({"error": self._too_large()}, 413, {"Connection": "close"})
            await refusal(scope, receive, guarded)
            return
        try:
            await self.app(scope, limited, guarded)
        except Exception:
            if begun:
                raise  # nothing else can be said any more: uvicorn logs it, and closes the connection
            log.exception("%s %r failed", scope["method"], scope["path"])
            failure = JSONResponse({"error": "the page's server failed; its log says why"}, 500)
            await failure(scope, receive, guarded)
        finally:
            self.held -= came

    def _too_large(self) -> str:
        return f"expected at most {self.most_bytes} bytes"


class RateLimit:
    """So many a minute for each caller; a caller not heard of for long is forgotten."""

    def __init__(self, per_minute: int, *, callers: int = 1000) -> None:
        self.per_minute, self.callers = per_minute, callers
        self._known: OrderedDict[str, tuple[float, float]] = OrderedDict()  # caller: (allowance, when)

    def allows(self, caller: str, now: float | None = None) -> bool:
        """Whether `caller` may do it once more; counts it if so."""
        now = time.monotonic() if now is None else now
        allowance, before = self._known.pop(caller, (float(self.per_minute), now))
        allowance = min(self.per_minute, allowance + (now - before) * self.per_minute / 60)
        allowed = allowance >= 1
        self._known[caller] = (allowance - allowed, now)
        if len(self._known) > self.callers:
            self._known.popitem(last=False)
        return allowed

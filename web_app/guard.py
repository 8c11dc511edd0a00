"""The gateway's limits for corrections, the security headers of its responses, and its counters."""

from __future__ import annotations

import time
from collections import OrderedDict
from ipaddress import IPv6Address, IPv6Network, ip_address

from prometheus_client import CollectorRegistry, Counter, Histogram

FEEDBACK_PER_DAY = 1000  # corrections of a caller
ALL_FEEDBACK_PER_DAY = 3000  # corrections of all callers; as many as a run trains on
RESPONSE_HEADERS = {
    # No inline code, nothing from other hosts; the page may send requests to this gateway only.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",  # the page's files have their own
}


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


def identify(client: str) -> str:
    """Return who has a client's address, as Granian writes it: an IPv4 address, or a network of 64 bits of IPv6.

    A host can take any address of such a network.

    >>> identify("[::ffff:127.0.0.1]:50000"), identify("[2001:db8::1:2]:50000")
    ('127.0.0.1', '2001:db8::/64')
    """
    address = ip_address(client.rpartition(":")[0].strip("[]").partition("%")[0])
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or IPv6Network((address, 64), strict=False))
    return str(address)


class RateLimit:
    """A token bucket per caller, of `count` actions in `seconds`; the least recently seen callers are evicted."""

    def __init__(self, count: int, seconds: float, *, callers: int = 1000) -> None:
        self.count, self.seconds, self.callers = count, seconds, callers
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # caller: (allowance, update time)

    def allows(self, caller: str, now: float | None = None) -> bool:
        """Return whether `caller` may act now, and count the action if so. `now` is in seconds of time.monotonic()."""
        now = time.monotonic() if now is None else now
        allowance, last = self._buckets.pop(caller, (float(self.count), now))
        allowance = min(self.count, allowance + (now - last) * self.count / self.seconds)
        allowed = allowance >= 1
        self._buckets[caller] = (allowance - allowed, now)
        if len(self._buckets) > self.callers:
            self._buckets.popitem(last=False)
        return allowed


class FeedbackLimits:
    """The corrections that are accepted: of each caller in a minute and in a day, and of all callers in a day."""

    def __init__(self, per_minute: int) -> None:
        self._limits = [
            (RateLimit(per_minute, 60), True, f"{per_minute} corrections a minute"),
            (RateLimit(FEEDBACK_PER_DAY, 86_400), True, f"{FEEDBACK_PER_DAY} corrections a day"),
            (
                RateLimit(ALL_FEEDBACK_PER_DAY, 86_400),
                False,
                f"{ALL_FEEDBACK_PER_DAY} corrections a day from all visitors",
            ),
        ]

    def exceeded(self, caller: str, count: int) -> str:
        """Return the limit that `count` corrections of a caller exceed, in words, and '' if they are accepted."""
        for limit, each, text in self._limits:
            if not all(limit.allows(caller if each else "") for _ in range(count)):
                return text
        return ""

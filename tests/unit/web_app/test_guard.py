"""The gateway's middleware: limits, security headers and counters."""

from __future__ import annotations

import httpx
import pytest

from tests.helpers.gateway_requests import PNG, correct, recognise
from web_app.guard import FeedbackLimits, RateLimit, identify


@pytest.mark.parametrize("path", ["/api/recognise", "/api/feedback?label=1"])
def test_large_bodies_are_rejected(gateway: httpx.Client, path: str) -> None:
    """A body over the limit gets 413, with and without Content-Length."""
    large = bytes(100_001)
    assert gateway.post(path, content=large, headers=PNG).status_code == 413
    assert gateway.post(path, content=iter([large[:60_000], large[:60_000]]), headers=PNG).status_code == 413


def test_the_rate_of_corrections_is_limited(gateway: httpx.Client) -> None:
    """The corrections of a caller beyond the limit per minute get 429."""
    codes = [correct(gateway, n).status_code for n in range(4)]
    assert codes == [200, 200, 200, 429]


def test_the_corrections_of_a_day_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller, and all callers together, can make a number of corrections a day, however slowly they make them."""
    monkeypatch.setattr("web_app.guard.FEEDBACK_PER_DAY", 5)
    monkeypatch.setattr("web_app.guard.ALL_FEEDBACK_PER_DAY", 8)
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    limits, exceeded = FeedbackLimits(per_minute=2), []
    for caller in ["a", "a", "a", "b", "b", "c"]:
        exceeded.append(limits.exceeded(caller, 2))
        now += 60
    day, all_day = "5 corrections a day", "8 corrections a day from all visitors"
    assert exceeded == ["", "", day, "", "", all_day]
    assert limits.exceeded("a", 3) == "2 corrections a minute"
    now += 86_400
    assert limits.exceeded("a", 2) == ""


def test_an_allowance_recovers_with_time() -> None:
    """A caller's allowance recovers with time, separately for each caller; the number of known callers is bounded."""
    limit = RateLimit(2, 60, callers=2)
    assert [limit.allows("a", now) for now in (0, 0, 0, 31)] == [True, True, False, True]
    assert limit.allows("b", 0)
    assert limit.allows("c", 0)
    assert len(limit._buckets) == 2


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("[2001:db8::1]:1", "[2001:db8::ffff:1:2]:2", True),
        ("[fe80::1%2]:1", "[fe80::2%2]:2", True),
        ("[2001:db8::1]:1", "[2001:db8:0:1::1]:1", False),
        ("[::ffff:192.0.2.1]:1", "192.0.2.1:2", True),
        ("[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.2]:1", False),
        ("192.0.2.1:1", "192.0.2.2:1", False),
    ],
)
def test_the_addresses_of_one_network_are_one_caller(one: str, other: str, same: bool) -> None:
    """A host that changes its IPv6 address within its network has one allowance; each IPv4 address has its own."""
    limit = RateLimit(1, 60)
    assert [limit.allows(identify(client), 0) for client in (one, other)] == [True, not same]


def test_every_response_has_the_security_headers(gateway: httpx.Client) -> None:
    """Every response, also an error, forbids inline code and content from other hosts."""
    for answer in (gateway.get("/"), gateway.get("/nowhere"), gateway.post("/api/recognise", content=bytes(200_000))):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_an_unexpected_error_is_answered_and_counted(
    gateway: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected exception gives a JSON 500 with the security headers; it is logged and counted."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("an unexpected error")

    with monkeypatch.context() as patched:
        patched.setattr("web_app.gateway.judge", broken)
        answer = recognise(gateway)
    assert (answer.status_code, answer.json()["error"]) == (500, "the request failed; the server's log says why")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert "an unexpected error" in caplog.text
    assert 'digits_web_requests_total{route="/api/recognise",status="500"} 1.0' in gateway.get("/metrics").text
    assert recognise(gateway).status_code == 200

"""Errors for a server that is unreachable or not an S3 server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from digits import answers
from digits.errors import StoreError, StoreUnreachable, UsageError
from digits.settings import Settings
from digits.store import ObjectStore, open_store, s3, s3_client
from tests.helpers.support import DRIPS, answering, dripping, free_port
from tests.helpers.untrusted import untrusted_server

REQUESTS: dict[str, Callable[[ObjectStore], object]] = {
    "put": lambda store: store.put("a", b"x"),
    "create": lambda store: store.create("a", b"x"),
    "keys": lambda store: store.keys("a/"),
}
READS: dict[str, Callable[[ObjectStore], object]] = {
    "get": lambda store: store.get("a"),
    "delete": lambda store: store.delete("a"),
}


def store_at(endpoint: str, region: str = "") -> ObjectStore:
    """Return the store at an S3 address."""
    return open_store(
        Settings(
            store="s3://digits",
            minio_endpoint=endpoint,
            minio_access_key="access",
            minio_secret_key="a-secret-key",
            minio_region=region,
        )
    )


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize("page", [b"<!doctype html><title>404</title>", b""])
def test_a_server_that_is_not_s3_is_named(page: bytes, request_: Callable[[ObjectStore], object]) -> None:
    """An error that is not S3's does not suggest that the credentials are wrong: the remedy names the address."""
    with answering(page, 404) as endpoint, pytest.raises(StoreError, match="is not an S3 server") as refused:
        request_(store_at(endpoint))
    assert "MINIO_ENDPOINT" in refused.value.remedy


@pytest.mark.parametrize("page", [b"<!doctype html><title>MinIO Console</title>", b"<html/>"])
def test_a_web_page_is_not_a_listing(page: bytes) -> None:
    """A server that answers everything with a page, as MinIO's console does, is not S3, even if the page is XML."""
    with answering(page) as endpoint, pytest.raises(StoreError, match="is not an S3 server"):
        store_at(endpoint).keys()


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_a_server_that_stays_busy_is_unreachable(request_: Callable[[ObjectStore], object]) -> None:
    """A 503 to every attempt does not suggest that the credentials or the address are wrong."""
    with (
        answering(b"", 503) as endpoint,
        pytest.raises(StoreUnreachable, match="only returns errors: too many 503") as refused,
    ):
        request_(store_at(endpoint))
    assert "MINIO_ENDPOINT" not in refused.value.remedy


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize(
    ("endpoint", "reason"), [("no-such-host.invalid:9000", "name does not resolve"), ("", "connection refused")]
)
def test_an_error_says_why_a_server_does_not_answer(
    endpoint: str, reason: str, request_: Callable[[ObjectStore], object]
) -> None:
    """An unknown name and a closed port have different messages."""
    with pytest.raises(StoreUnreachable, match=f"did not answer: {reason}") as refused:
        request_(store_at(endpoint or f"127.0.0.1:{free_port()}"))
    for advised in ("MINIO_ENDPOINT", "digits run --resume"):  # for a server of the user, and for our container
        assert advised in refused.value.remedy


@pytest.mark.parametrize("name", [*REQUESTS, "get", "delete"])
def test_an_answer_that_never_ends_is_given_up(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that sends a byte now and then does not hold a request longer than its deadline."""
    monkeypatch.setattr(s3_client, "ATTEMPTS", 1)
    monkeypatch.setattr(answers, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(s3, "OBJECT_SECONDS", 0.3)
    with dripping(DRIPS["body"]) as endpoint, pytest.raises(StoreUnreachable, match="timed out"):
        (REQUESTS | READS)[name](store_at(endpoint, "us-east-1"))


def test_an_answer_of_any_length_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing or an error that is longer than the limit is given up, whatever the server claims."""
    monkeypatch.setattr(answers, "MAX_ANSWER", 1000)
    for status in (200, 404):
        with answering(b"x" * 5000, status) as endpoint, pytest.raises(StoreUnreachable, match="more than 1000 bytes"):
            store_at(endpoint, "us-east-1").keys("a/")


def test_the_scheme_of_the_endpoint_is_followed_in_any_case() -> None:
    """HTTPS:// is not reduced to unencrypted requests, and the address of another kind of server is refused."""
    assert store_at("HTTPS://s3.example.com")._client._base_url.is_https  # type: ignore[attr-defined]
    assert not store_at("s3.example.com:9000")._client._base_url.is_https  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match=r"MINIO_ENDPOINT: expected .*, got ftp://"):
        store_at("ftp://s3.example.com")


def test_a_certificate_that_is_not_trusted_has_its_own_remedy(tmp_path: Path) -> None:
    """A server with an unknown certificate, or without TLS, does answer: it is not to be started, nor waited for."""
    with (
        untrusted_server(tmp_path) as endpoint,
        pytest.raises(StoreError, match="CERTIFICATE_VERIFY") as refused,
    ):
        store_at(f"https://{endpoint}").keys("a/")
    assert not isinstance(refused.value, StoreUnreachable)
    assert "SSL_CERT_FILE" in refused.value.remedy
    with answering() as endpoint, pytest.raises(StoreError, match="TLS failed") as refused:
        store_at(f"https://{endpoint}").keys("a/")
    assert "http://" in refused.value.remedy

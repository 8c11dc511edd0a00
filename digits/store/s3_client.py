"""The MinIO client with its timeouts and retries, and the translation of its errors into those of digits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError, ResponseError

from digits.errors import ObjectMissing, StoreError, StoreUnreachable
from digits.http import in_words
from digits.store.content import BLOCK

if TYPE_CHECKING:
    from digits.settings import Settings

CONNECT_SECONDS, READ_SECONDS = 3.0, 30.0
ANSWER_SECONDS, MAX_ANSWER = 60.0, 16 << 20  # bytes; a listing of a thousand keys has some 300 KB
OBJECT_SECONDS, MAX_OBJECT = 600.0, 1 << 30  # of an object's content
ATTEMPTS = 3  # per request, if the server is busy or the connection breaks
BUSY = (500, 502, 503, 504)
MISSING = {"NoSuchKey", "NoSuchBucket", "NoSuchObject"}
WRONG_CLOCK = {"RequestTimeTooSkewed", "RequestExpired"}


def s3_client(settings: Settings) -> Minio:
    """Return a client of the server at MINIO_ENDPOINT. Raises ValueError if the address is not valid."""
    pool = _BoundedPool(
        timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
        retries=urllib3.Retry(total=ATTEMPTS - 1, backoff_factor=0.2, status_forcelist=BUSY),
        maxsize=8,
    )
    return Minio(
        endpoint=settings.minio_endpoint.split("://")[-1].rstrip("/"),
        access_key=settings.minio_access_key,
        secret_key=settings.minio_secret_key,
        secure=settings.minio_endpoint.startswith("https://"),
        session_token=settings.minio_session_token or None,
        region=settings.minio_region or None,  # None: from an AWS host's name, or requested from the server
        http_client=pool,
    )


class _BoundedPool(urllib3.PoolManager):
    """A pool whose answers, other than an object's content, are complete in ANSWER_SECONDS and at most MAX_ANSWER long.

    urllib3's timeout is for each read, and the MinIO client reads an answer of any length.
    """

    def urlopen(self, method: str, url: str, redirect: bool = True, **options: Any) -> BaseHTTPResponse:  # type: ignore[override]
        until, preload = time.monotonic() + ANSWER_SECONDS, options.pop("preload_content", True)
        response = super().urlopen(method, url, redirect, preload_content=False, **options)
        if not preload and response.status in {200, 206}:
            return response
        body = b"".join(blocks(response, until, MAX_ANSWER))
        response.release_conn()
        return urllib3.HTTPResponse(
            body, response.headers, response.status, reason=response.reason, retries=response.retries
        )


def blocks(response: BaseHTTPResponse, until: float, max_bytes: int) -> Iterator[bytes]:
    """Yield the body of a response that was not preloaded. Raises HTTPError after time.monotonic() is `until`.

    Raises:
        HTTPError: also if there are more than `max_bytes`.
    """
    length = 0
    while block := response.read1(BLOCK):
        length += len(block)
        if time.monotonic() > until or length > max_bytes:
            response.close()
            raise HTTPError("timed out" if length <= max_bytes else f"it sent more than {max_bytes} bytes")
        yield block


@contextmanager
def translated(uri: str, key: str) -> Iterator[None]:
    """Turn errors of the client and of urllib3 into StoreErrors and StoreUnreachable that name `uri` and `key`."""
    try:
        yield
    except S3Error as exc:
        if exc.code in MISSING:
            raise ObjectMissing(f"no object {key!r} in {uri}") from exc
        if not exc.code:
            raise _not_s3(uri, exc) from exc
        raise StoreError(
            f"{uri}: {key}: the server refused the request: {exc.code}",
            remedy="correct the clock of this machine or of the server: they differ too much"
            if exc.code in WRONG_CLOCK
            else "check MINIO_ACCESS_KEY, MINIO_SECRET_KEY, the bucket's policy, and MINIO_REGION",
        ) from exc
    except (HTTPError, ConnectionError) as exc:
        if isinstance(getattr(exc, "reason", exc), ResponseError):
            raise StoreUnreachable(
                f"the object store {uri} only returns errors: {in_words(exc)}",
                remedy="wait until it is ready, or look into its log",
            ) from exc
        raise StoreUnreachable(
            f"the object store {uri} did not answer: {in_words(exc)}",
            remedy="start it, or correct MINIO_ENDPOINT",
        ) from exc
    except (MinioException, SyntaxError, ValueError) as exc:  # the response is not S3's: no XML, or other XML
        raise _not_s3(uri, exc) from exc


def _not_s3(uri: str, exc: Exception) -> StoreError:
    return StoreError(
        f"{uri}: the server at MINIO_ENDPOINT is not an S3 server: {str(exc)[:200]}",
        remedy="set MINIO_ENDPOINT to the port of the S3 API, not the console's; or check whether a proxy answers",
    )

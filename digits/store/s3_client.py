"""The MinIO client with its timeouts and retries, and the translation of its errors into those of digits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError, ResponseError

from digits.answers import limit_urllib3
from digits.errors import ObjectMissing, StoreError, StoreUnreachable
from digits.http import in_words, tls_remedy

if TYPE_CHECKING:
    from digits.settings import Settings

CONNECT_SECONDS, READ_SECONDS = 3.0, 30.0
OBJECT_SECONDS = 600.0  # of an object's content
MAX_OBJECT, MAX_IN_MEMORY = 1 << 30, 64 << 20  # bytes of an object that is downloaded, or read into memory
ATTEMPTS = 3  # per request, if the server is busy or the connection breaks
BUSY = (500, 502, 503, 504)
MISSING = {"NoSuchKey", "NoSuchBucket", "NoSuchObject"}
ASSUMED_REGION = "us-east-1"
WRONG_REGION = {"AuthorizationHeaderMalformed", "BadRequest"}  # the second for HEAD, whose answer has no body
FULL = "free space in the object store, or raise the quota of the bucket"
WRONG_CLOCK = "correct the clock of this machine or of the server: they differ too much"
OTHER_KEYS = (
    "check MINIO_ACCESS_KEY, MINIO_SECRET_KEY and MINIO_REGION; if digits started the server, digits run starts it "
    "again with the keys in DIGITS_HOME"
)
REMEDIES = {
    **dict.fromkeys(("InvalidAccessKeyId", "SignatureDoesNotMatch"), OTHER_KEYS),
    "RequestTimeTooSkewed": WRONG_CLOCK,
    "RequestExpired": WRONG_CLOCK,
    **dict.fromkeys(("XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded"), FULL),
    "AccessDenied": "check MINIO_ACCESS_KEY and MINIO_SECRET_KEY; their policy must allow this address. Those of a "
    "Kubeflow profile allow private/NAMESPACE/*, shared/* and artifacts/* of the bucket mlpipeline",
}


def s3_client(settings: Settings) -> Minio:
    """Return a client of the server at MINIO_ENDPOINT. Raises ValueError if the address is not valid."""
    limit_urllib3()
    scheme, address = urlsplit(endpoint := settings.minio_endpoint).scheme, endpoint.rpartition("://")[2]
    if "://" in endpoint and scheme not in {"http", "https"}:
        raise ValueError(f"MINIO_ENDPOINT: expected host:port, http:// or https://, got {scheme}://")
    pool = urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
        retries=urllib3.Retry(
            total=ATTEMPTS - 1, backoff_factor=0.2, status_forcelist=BUSY, respect_retry_after_header=False
        ),
        maxsize=8,
    )
    return _Client(
        endpoint=address.rstrip("/"),
        access_key=settings.minio_access_key,
        secret_key=settings.minio_secret_key,
        secure=scheme == "https",
        session_token=settings.minio_session_token or None,
        region=settings.minio_region or None,
        http_client=pool,
    )


class _Client(Minio):
    """A client that requests a bucket's region only from AWS, or if the server refuses the assumed one.

    The keys of a Kubeflow profile may not request it. SeaweedFS accepts any region, and MinIO's default is us-east-1.
    """

    _refused = False  # whether the server refused the assumed region

    def _get_region(self, bucket_name: str | None = None) -> str:
        requested = self._refused or self._base_url.region or self._base_url.is_aws_host
        return super()._get_region(bucket_name) if requested else ASSUMED_REGION

    def _execute(self, *args: Any, **more: Any) -> BaseHTTPResponse:
        try:
            return super()._execute(*args, **more)
        except S3Error as exc:
            if self._refused or self._base_url.region or exc.code not in WRONG_REGION:
                raise
        self._refused = True
        return super()._execute(*args, **more)


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
            f"{uri}{': ' * bool(key)}{key}: the server refused the request: {exc.code}",
            remedy=REMEDIES.get(
                exc.code, "check MINIO_ACCESS_KEY, MINIO_SECRET_KEY, the bucket's policy, and MINIO_REGION"
            ),
        ) from exc
    except (HTTPError, ConnectionError) as exc:
        if isinstance(getattr(exc, "reason", exc), ResponseError):
            raise StoreUnreachable(
                f"the object store {uri} only returns errors: {in_words(exc)}",
                remedy="wait until it is ready, or look into its log",
            ) from exc
        if what := tls_remedy(exc):
            raise StoreError(f"the server of {uri} at MINIO_ENDPOINT: {in_words(exc)}", remedy=what) from exc
        raise StoreUnreachable(
            f"the object store {uri} did not answer: {in_words(exc)}",
            remedy="start it, or correct MINIO_ENDPOINT; if digits started it, digits run --resume starts it again",
        ) from exc
    except (MinioException, SyntaxError, ValueError, AttributeError, TypeError) as exc:  # not S3's XML, or none
        raise _not_s3(uri, exc) from exc


def _not_s3(uri: str, exc: Exception) -> StoreError:
    return StoreError(
        f"{uri}: the server at MINIO_ENDPOINT is not an S3 server: {str(exc)[:200]}",
        remedy="set MINIO_ENDPOINT to the port of the S3 API, not the console's; or check whether a proxy answers",
    )

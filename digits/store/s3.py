"""A bucket of an S3 server as object store, through the MinIO client."""

from __future__ import annotations

import concurrent.futures
import datetime
import io
import logging
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from digits.errors import ObjectMissing, StoreError, StoreUnreachable
from digits.http import in_words
from digits.store.content import BLOCK, checked, checked_key, save

if TYPE_CHECKING:
    from minio import Minio

    from digits.settings import Settings

CONNECT_SECONDS = 3.0
READ_SECONDS = 30.0
ATTEMPTS = 3
BUSY = (500, 502, 503, 504)
SIGNED = datetime.timedelta(minutes=5)  # how long a signed address can be used: longer than all attempts take
PROBE, RACERS = "probes/conditional-create", 4  # left in the store: only the first in a bucket race for it
SETTLE_SECONDS = 0.5

log = logging.getLogger("digits.store")


def open_bucket(settings: Settings, uri: str) -> S3Store:
    """The store at `s3://bucket/prefix`. Raises ValueError for a name that S3 cannot have."""
    parts = urlsplit(uri)
    return S3Store(s3_client(settings), parts.netloc, parts.path.strip("/"))


def s3_client(settings: Settings) -> Minio:
    """A MinIO client with bounded waits and retries."""
    import urllib3
    from minio import Minio

    endpoint = settings.minio_endpoint
    secure = endpoint.startswith("https://")
    pool = urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
        retries=urllib3.Retry(total=ATTEMPTS - 1, backoff_factor=0.2, status_forcelist=BUSY),
        maxsize=8,
    )
    return Minio(
        endpoint=endpoint.split("://")[-1].rstrip("/"),
        access_key=settings.minio_access_key,
        secret_key=settings.minio_secret_key,
        secure=secure,
        session_token=settings.minio_session_token or None,
        region=settings.minio_region or None,  # else that of an AWS host's name, or what the server says of the bucket
        http_client=pool,
    )


class S3Store:
    """A bucket (and a prefix in it) of an S3 server, through the MinIO client. Raises ValueError for a bad name."""

    def __init__(self, client: Minio, bucket: str, prefix: str = "") -> None:
        from minio.helpers import check_bucket_name

        check_bucket_name(bucket, s3_check=False)
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._exclusive: bool | None = None  # whether the server creates an object once; not known yet
        self.uri = f"s3://{bucket}/{prefix}".rstrip("/")

    def put(self, key: str, content: bytes | Path) -> None:
        """See ObjectStore."""
        name = self._name(key)
        with self._errors(key):
            self._writing(lambda: self._put(name, content))

    def _put(self, name: str, content: bytes | Path) -> None:
        if isinstance(content, Path):
            self._client.fput_object(self._bucket, name, str(content))
        else:
            self._client.put_object(self._bucket, name, io.BytesIO(content), len(content))

    def create(self, key: str, content: bytes) -> bool:
        """See ObjectStore. The MinIO client has no conditional write, so a signed URL carries If-None-Match."""
        name = self._name(key)
        with self._errors(key):
            if self._exclusive is None:
                self._exclusive = self._writing(self._is_exclusive)
            create = self._create if self._exclusive else self._create_and_see
            return bool(self._writing(lambda: create(key, name, content)))

    def _is_exclusive(self) -> bool:
        """Whether of creates at once no two succeed: some servers ignore the header, others keep to it one by one.

        Where the object is there from an earlier time, none does. Each has other content, by which an attempt whose
        answer was lost is recognised.
        """
        with concurrent.futures.ThreadPoolExecutor(RACERS) as pool:
            contents = [secrets.token_bytes(16) for _ in range(RACERS)]
            won = list(pool.map(lambda content: self._create(PROBE, self._name(PROBE), content), contents))
        if sum(won) > 1:
            self._client.remove_object(self._bucket, self._name(PROBE))  # whoever is next is to race again
            log.warning(
                "%s: this server has no conditional writes (If-None-Match: *); of two promotions at the same moment "
                "one could be lost. See docs/kubeflow.md, Troubleshooting",
                self.uri,
            )
        return sum(won) <= 1

    def _create_and_see(self, key: str, name: str, content: bytes) -> bool:
        """Look, write, and see after a while whose content stayed, on a server without conditional writes.

        Of several writers the last one wins and the others are told so, unless one takes longer than SETTLE_SECONDS
        from its look to its write.
        """
        if self.exists(key):
            return False
        self._put(name, content)
        time.sleep(SETTLE_SECONDS)
        return self.get(key) == content

    def _create(self, key: str, name: str, content: bytes) -> bool:
        import urllib3
        from minio.error import S3Error

        url = self._client.presigned_put_object(self._bucket, name, SIGNED)
        for attempt in range(ATTEMPTS):
            try:
                answer = urllib3.request(
                    "PUT",
                    url,
                    body=content,
                    headers={"If-None-Match": "*"},
                    retries=False,
                    timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
                )
                if answer.status not in BUSY:
                    break
                raise urllib3.exceptions.ResponseError(f"too many {answer.status} error responses")
            except (urllib3.exceptions.ProtocolError, urllib3.exceptions.ResponseError):
                if attempt + 1 == ATTEMPTS:
                    raise
                time.sleep(0.2 * 2**attempt)
        if answer.status == 412 or (answer.status == 409 and b"ConditionalRequestConflict" in answer.data):
            # Of an attempt whose answer was lost, only what is there now can tell whether it was the one that won.
            return attempt > 0 and self.get(key) == content
        if answer.status != 200:
            raise S3Error.fromxml(answer)
        return True

    def get(self, key: str, *, sha256: str = "") -> bytes:
        """See ObjectStore."""
        name = self._name(key)
        with self._errors(key):
            answer = self._client.get_object(self._bucket, name)
            try:
                return checked(answer.read(), key, sha256)
            finally:
                answer.close()
                answer.release_conn()

    def download(self, key: str, path: Path, *, sha256: str = "") -> None:
        """See ObjectStore."""
        name = self._name(key)
        with self._errors(key):
            answer = self._client.get_object(self._bucket, name)
            try:
                save(answer.stream(BLOCK), path, key, sha256)
            finally:
                answer.close()
                answer.release_conn()

    def keys(self, prefix: str = "") -> list[str]:
        """See ObjectStore."""
        checked_key(prefix, folder=True)
        with self._errors(prefix):
            try:
                found = self._client.list_objects(self._bucket, prefix=self._prefix + prefix, recursive=True)
                return sorted(str(o.object_name).removeprefix(self._prefix) for o in found if not o.is_dir)
            except _s3_error() as exc:
                if exc.code == "NoSuchBucket":
                    return []
                raise

    def exists(self, key: str) -> bool:
        """See ObjectStore."""
        name = self._name(key)
        with self._errors(key):
            try:
                self._client.stat_object(self._bucket, name)
            except _s3_error() as exc:
                if exc.code in {"NoSuchKey", "NoSuchBucket", "NoSuchObject"}:
                    return False
                raise
        return True

    def delete(self, key: str) -> None:
        """See ObjectStore."""
        name = self._name(key)
        with self._errors(key):
            self._client.remove_object(self._bucket, name)

    def _name(self, key: str) -> str:
        return self._prefix + checked_key(key)

    def _writing(self, write: Any) -> Any:
        """Run `write`, making the bucket first if the server says that there is none."""
        try:
            return write()
        except _s3_error() as exc:
            if exc.code != "NoSuchBucket":
                raise
        try:
            self._client.make_bucket(self._bucket)
        except _s3_error() as exc:
            if exc.code not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                raise
        return write()

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        import urllib3.exceptions
        from minio.error import MinioException

        try:
            yield
        except _s3_error() as exc:
            if exc.code in {"NoSuchKey", "NoSuchBucket", "NoSuchObject"}:
                raise ObjectMissing(f"no object {key!r} in {self.uri}") from exc
            if not exc.code:
                raise self._no_s3(exc) from exc
            clock = exc.code in {"RequestTimeTooSkewed", "RequestExpired"}
            raise StoreError(
                f"{self.uri}: {key}: the server said {exc.code}",
                remedy="set this machine's clock, or the server's: they differ too much"
                if clock
                else "check MINIO_ACCESS_KEY, MINIO_SECRET_KEY, the bucket's policy, and MINIO_REGION",
            ) from exc
        except (urllib3.exceptions.HTTPError, ConnectionError) as exc:
            if isinstance(getattr(exc, "reason", exc), urllib3.exceptions.ResponseError):
                raise StoreUnreachable(
                    f"the object store {self.uri} is there, but answers with errors alone: {in_words(exc)}",
                    remedy="wait until it is ready, or see its log",
                ) from exc
            raise StoreUnreachable(
                f"the object store {self.uri} did not answer: {in_words(exc)}",
                remedy="start it, or correct MINIO_ENDPOINT",
            ) from exc
        except (MinioException, SyntaxError, ValueError) as exc:  # the client found no S3, no XML, or another's XML
            raise self._no_s3(exc) from exc

    def _no_s3(self, exc: Exception) -> StoreError:
        return StoreError(
            f"{self.uri}: what answers at MINIO_ENDPOINT is no S3 server: {str(exc)[:200]}",
            remedy="give MINIO_ENDPOINT the port of the S3 API, which is not the console's; a proxy may refuse too",
        )


def _s3_error() -> Any:
    from minio.error import S3Error

    return S3Error

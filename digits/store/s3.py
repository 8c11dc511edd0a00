"""A bucket of an S3 server as object store: `s3://bucket/prefix`."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from minio import Minio
from minio.error import S3Error
from minio.helpers import check_bucket_name
from urllib3.exceptions import HTTPError

from digits.answers import within
from digits.errors import ObjectRefused, StoreError
from digits.http import read_blocks
from digits.store import Scheme, Trust
from digits.store.content import check_digest, check_key, check_prefix, save
from digits.store.s3_client import MAX_IN_MEMORY, MAX_OBJECT, MISSING, OBJECT_SECONDS, s3_client, translated
from digits.tasks.task import BUILT_IN

if TYPE_CHECKING:
    from digits.settings import Settings

PROBE = "probes/conditional-create"  # stays in the bucket
SETTLE_SECONDS = 0.5
SMALL = 16 << 10  # bytes of a request that a server receives whole, even if it does not read it
LISTING_SECONDS, MAX_KEYS = 120.0, 1_000_000
NOT_CREATED = {"PreconditionFailed", "ConditionalRequestConflict"}

T = TypeVar("T")

log = logging.getLogger("digits.store")


class S3Store:
    """A bucket of an S3 server, and a prefix in it, as object store; see ObjectStore."""

    trust = Trust()
    task = BUILT_IN

    def __init__(self, client: Minio, bucket: str, prefix: str = "") -> None:
        """Use `bucket`, which need not exist yet. Raises ValueError if S3 does not allow that name."""
        check_bucket_name(bucket, s3_check=False)
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._bucket_is_known = False  # whether this process has asked for the bucket
        self._conditional: bool | None = None  # whether the server has conditional writes; None until the first create
        self.uri = f"s3://{bucket}/{prefix}".rstrip("/")

    def put(self, key: str, content: bytes | Path) -> None:
        """See ObjectStore."""
        with self._errors(key):
            if not self._bucket_is_known and (not isinstance(content, bytes) or len(content) > SMALL):
                self._create_bucket()
            self._write(lambda: self._put(key, content))

    def create(self, key: str, content: bytes) -> bool:
        """See ObjectStore. The first call checks whether the server has conditional writes."""
        with self._errors(key):
            if self._conditional is None:
                self._conditional = self._write(self._has_conditional_writes)
            create = self._create if self._conditional else self._create_and_check
            return self._write(lambda: create(key, content))

    def get(self, key: str, *, sha256: str = "") -> bytes:
        """See ObjectStore."""
        with self._content(key, MAX_IN_MEMORY) as content:
            return check_digest(b"".join(content), key, sha256)

    def download(self, key: str, path: Path, *, sha256: str = "") -> None:
        """See ObjectStore."""
        with self._content(key, MAX_OBJECT) as content:
            save(content, path, key, sha256)

    def keys(self, prefix: str = "", *, min_age: float | None = None) -> list[str]:
        """See ObjectStore."""
        folder, latest = self._prefix + check_prefix(prefix), time.time() - (min_age or 0)
        until = time.monotonic() + LISTING_SECONDS
        too_many = StoreError(
            f"{self.uri}/{prefix}: a listing of more than {MAX_KEYS} objects or {LISTING_SECONDS:g} s",
            remedy="move old ones out of there (docs/troubleshooting.md), or give an address with fewer objects",
        )
        with self._errors(prefix):
            try:
                with within(LISTING_SECONDS):
                    objects = self._client.list_objects(self._bucket, prefix=folder, recursive=True)
                    objects = itertools.islice(objects, MAX_KEYS + 1)
                    found = [(str(o.object_name), o.last_modified) for o in objects if not o.is_dir]
            except S3Error as exc:
                if exc.code == "NoSuchBucket":
                    return []
                raise
            except HTTPError as exc:
                if time.monotonic() < until:
                    raise
                raise too_many from exc
            if len(found) > MAX_KEYS:
                raise too_many
            if min_age is not None:
                found = [(key, written) for key, written in found if written and written.timestamp() <= latest]
            return sorted(key.removeprefix(self._prefix) for key, _ in found)

    def exists(self, key: str) -> bool:
        """See ObjectStore."""
        with self._errors(key):
            try:
                self._client.stat_object(self._bucket, self._name(key))
            except S3Error as exc:
                if exc.code in MISSING:
                    return False
                raise
        return True

    def delete(self, key: str) -> None:
        """See ObjectStore."""
        with self._errors(key):
            self._client.remove_object(self._bucket, self._name(key))

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _put(self, key: str, content: bytes | Path) -> None:
        if isinstance(content, Path):
            self._client.fput_object(self._bucket, self._name(key), str(content))
        else:
            self._client.put_object(self._bucket, self._name(key), io.BytesIO(content), len(content))

    def _create_bucket(self) -> None:
        """Create the bucket if it does not exist.

        Otherwise a server answers a large upload and closes the connection unread, which ends `kubectl port-forward`.
        """
        with contextlib.suppress(S3Error):  # not everyone may ask; the upload reports what is wrong
            if not self._client.bucket_exists(self._bucket):
                self._client.make_bucket(self._bucket)
        self._bucket_is_known = True

    def _create(self, key: str, content: bytes) -> bool:
        try:
            # minio's public methods cannot send this header before its next major version (extra_headers).
            self._client._put_object(self._bucket, self._name(key), content, {"If-None-Match": "*"})  # noqa: SLF001
        except S3Error as exc:
            if exc.code not in NOT_CREATED:
                raise
            # The client may have retried: the first request wrote the object, but its response was lost.
            retries = exc.response.retries
            return bool(retries and retries.history) and self.get(key) == content
        return True

    def _has_conditional_writes(self) -> bool:
        """Return whether the server honours If-None-Match, so that the second of two creates of one key fails.

        A server that honours If-None-Match, but not atomically (SeaweedFS 4.16), is not detected.
        """
        if self._create(PROBE, secrets.token_bytes(16)) and self._create(PROBE, secrets.token_bytes(16)):
            log.warning(
                "%s: this server has no conditional writes (If-None-Match: *); one of two concurrent promotions "
                "could be lost. See docs/kubeflow.md, Troubleshooting",
                self.uri,
            )
            return False
        return True

    def _create_and_check(self, key: str, content: bytes) -> bool:
        """Create an object on a server without conditional writes.

        If several write, the last one wins. Each reads the object SETTLE_SECONDS after its own write, so the others
        return False. This fails if one takes longer than SETTLE_SECONDS from its check to its write.
        """
        if self.exists(key):
            return False
        self._put(key, content)
        time.sleep(SETTLE_SECONDS)
        return self.get(key) == content

    def _write(self, request: Callable[[], T]) -> T:
        """Make a request. If the bucket does not exist, create it and repeat the request."""
        try:
            return request()
        except S3Error as exc:
            if exc.code != "NoSuchBucket":
                raise
        try:
            self._client.make_bucket(self._bucket)
        except S3Error as exc:
            if exc.code not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                raise
        return request()

    @contextmanager
    def _content(self, key: str, max_bytes: int) -> Iterator[Iterator[bytes]]:
        name = self._name(key)
        with self._errors(key):
            response = self._client.get_object(self._bucket, name)
            try:
                if int(response.headers.get("Content-Length") or 0) > max_bytes:
                    raise ObjectRefused(f"{self.uri}: {key} has more than {max_bytes} bytes")
                yield read_blocks(response, time.monotonic() + OBJECT_SECONDS, max_bytes)
            finally:
                response.close()
                response.release_conn()

    def _errors(self, key: str) -> AbstractContextManager[None]:
        return translated(self.uri, key)


def open_bucket(settings: Settings, uri: str) -> S3Store:
    """Open the store at `s3://bucket/prefix`. Raises ValueError for another address or bucket name."""
    parts = urlsplit(uri)
    if parts.query or parts.fragment or "@" in parts.netloc:  # the address is in records and on command lines
        raise ValueError("expected s3://bucket/prefix, without user, query or fragment")
    return S3Store(s3_client(settings), parts.netloc, parts.path.strip("/"))


SCHEME = Scheme(
    "s3://bucket",
    open_bucket,
    required=("MINIO_ENDPOINT", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"),
    optional=("MINIO_REGION", "MINIO_SESSION_TOKEN"),
    secrets={
        "AWS_ACCESS_KEY_ID": "MINIO_ACCESS_KEY",
        "AWS_SECRET_ACCESS_KEY": "MINIO_SECRET_KEY",
        "AWS_SESSION_TOKEN": "MINIO_SESSION_TOKEN",
    },
)

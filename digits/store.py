"""Objects addressed by URI: a folder (`file://`) or a bucket of an S3 server (`s3://`), behind one interface.

Keys are relative, `/`-separated paths. An object appears whole or not at all; `create` succeeds for one
writer only, which is what promotions are built on.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote, urlsplit

from digits.errors import DigestMismatch, ObjectMissing, StoreError, StoreUnreachable, UsageError
from digits.files import sha256_of, whole_file, write_whole

if TYPE_CHECKING:
    from minio import Minio

    from digits.settings import Settings

CONNECT_SECONDS = 3.0
READ_SECONDS = 30.0
ATTEMPTS = 3
BLOCK = 1 << 20


class ObjectStore(Protocol):
    """What the product needs of an object store."""

    uri: str

    def put(self, key: str, content: bytes | Path) -> None:
        """Write an object, replacing one under the same key."""

    def create(self, key: str, content: bytes) -> bool:
        """Write an object only if there is none under that key. Returns whether this call wrote it."""

    def get(self, key: str, *, sha256: str = "") -> bytes:
        """An object's content. Raises ObjectMissing; DigestMismatch if `sha256` is given and differs."""

    def download(self, key: str, path: Path, *, sha256: str = "") -> None:
        """Write an object's content to `path`, whole. Raises as `get`; leaves nothing behind on failure."""

    def keys(self, prefix: str = "") -> list[str]:
        """The sorted keys inside the folder `prefix` ('' or ending in '/')."""

    def exists(self, key: str) -> bool:
        """Whether there is an object under that key."""

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens where there is none."""


def open_store(settings: Settings, uri: str = "") -> ObjectStore:
    """The store behind `uri` (default: the settings' own). S3 buckets are made when first written to.

    Raises:
        UsageError: the URI or the S3 settings are incomplete.
    """
    uri = uri or settings.store
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return FileStore(Path(unquote(parts.path)))
    if parts.scheme != "s3" or not parts.netloc:
        raise UsageError(f"expected a store file:///folder or s3://bucket/prefix, got {uri!r}")
    for name, value in (
        ("MINIO_ENDPOINT", settings.minio_endpoint),
        ("MINIO_ACCESS_KEY", settings.minio_access_key),
        ("MINIO_SECRET_KEY", settings.minio_secret_key),
    ):
        if not value:
            raise UsageError(f"the store {uri} needs {name}, which is not set", remedy=f"export {name}=…")
    return S3Store(s3_client(settings), parts.netloc, parts.path.strip("/"))


def s3_client(settings: Settings) -> Minio:
    """A MinIO client with bounded waits and retries."""
    import urllib3
    from minio import Minio

    endpoint = settings.minio_endpoint
    secure = endpoint.startswith("https://")
    pool = urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
        retries=urllib3.Retry(total=ATTEMPTS - 1, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]),
        maxsize=8,
    )
    return Minio(
        endpoint=endpoint.split("://")[-1].rstrip("/"),
        access_key=settings.minio_access_key,
        secret_key=settings.minio_secret_key,
        secure=secure,
        region="us-east-1",
        http_client=pool,
    )


def checked_key(key: str, *, folder: bool = False) -> str:
    """`key` if it is a plain relative path, else StoreError: no '..', no empty part, no control character."""
    body = key[:-1] if folder and key.endswith("/") else key
    if folder and key == "":
        return key
    if folder and not key.endswith("/"):
        # Without the slash, a listing of `v1` would also return `v10` (as KServe's initializer does).
        raise StoreError(f"expected a folder ending in '/', got {key!r}")
    parts = body.split("/")
    if any(part in {"", ".", ".."} for part in parts) or "\\" in key or not key.isprintable():
        raise StoreError(f"expected a plain relative key such as models/a/manifest.json, got {key!r}")
    return key


class FileStore:
    """A folder as object store."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uri = root.as_uri()

    def _path(self, key: str) -> Path:
        path = self.root / checked_key(key)
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise StoreError(f"{key!r} leads out of the store {self.uri} by a link")
        return path

    def put(self, key: str, content: bytes | Path) -> None:
        """See ObjectStore."""
        with self._errors(key), whole_file(self._path(key)) as file:
            if isinstance(content, Path):
                with content.open("rb") as source:
                    shutil.copyfileobj(source, file, BLOCK)
            else:
                file.write(content)

    def create(self, key: str, content: bytes) -> bool:
        """See ObjectStore. A hard link fails where the name exists, so exactly one writer wins."""
        path = self._path(key)
        part = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.part")
        with self._errors(key):
            write_whole(part, content)
            try:
                os.link(part, path)
            except FileExistsError:
                return False
            finally:
                part.unlink(missing_ok=True)
        return True

    def get(self, key: str, *, sha256: str = "") -> bytes:
        """See ObjectStore."""
        with self._errors(key):
            return _checked(self._path(key).read_bytes(), key, sha256)

    def download(self, key: str, path: Path, *, sha256: str = "") -> None:
        """See ObjectStore."""
        with self._errors(key), self._path(key).open("rb") as source:
            _save(iter(lambda: source.read(BLOCK), b""), path, key, sha256)

    def keys(self, prefix: str = "") -> list[str]:
        """See ObjectStore. Half-written files are not objects."""
        folder = self.root / checked_key(prefix, folder=True)
        found = (p for p in folder.rglob("*") if p.is_file() and not (p.name[0] == "." and p.name.endswith(".part")))
        return sorted(p.relative_to(self.root).as_posix() for p in found)

    def exists(self, key: str) -> bool:
        """See ObjectStore."""
        return self._path(key).is_file()

    def delete(self, key: str) -> None:
        """See ObjectStore."""
        with self._errors(key):
            self._path(key).unlink(missing_ok=True)

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as exc:
            raise ObjectMissing(f"no object {key!r} in {self.uri}") from exc
        except OSError as exc:
            raise StoreError(f"{self.uri}: {key}: {exc.strerror or exc}") from exc


class S3Store:
    """A bucket (and a prefix in it) of an S3 server, through the MinIO client."""

    def __init__(self, client: Minio, bucket: str, prefix: str = "") -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
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
            return bool(self._writing(lambda: self._create(name, content)))

    def _create(self, name: str, content: bytes) -> bool:
        import urllib3
        from minio.error import S3Error

        url = self._client.presigned_put_object(self._bucket, name)
        # No retry: a repeated conditional write would see its own first attempt as somebody else's.
        answer = urllib3.request(
            "PUT",
            url,
            body=content,
            headers={"If-None-Match": "*"},
            retries=False,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
        )
        if answer.status == 412 or (answer.status == 409 and b"ConditionalRequestConflict" in answer.data):
            return False
        if answer.status != 200:
            code = "NoSuchBucket" if b"NoSuchBucket" in answer.data else f"HTTP {answer.status}"
            raise S3Error(answer, code, f"PUT answered {answer.status}", name, "", "", self._bucket, name)
        return True

    def get(self, key: str, *, sha256: str = "") -> bytes:
        """See ObjectStore."""
        name = self._name(key)
        with self._errors(key):
            answer = self._client.get_object(self._bucket, name)
            try:
                return _checked(answer.read(), key, sha256)
            finally:
                answer.close()
                answer.release_conn()

    def download(self, key: str, path: Path, *, sha256: str = "") -> None:
        """See ObjectStore."""
        name = self._name(key)
        with self._errors(key):
            answer = self._client.get_object(self._bucket, name)
            try:
                _save(answer.stream(BLOCK), path, key, sha256)
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

        try:
            yield
        except _s3_error() as exc:
            if exc.code in {"NoSuchKey", "NoSuchBucket", "NoSuchObject"}:
                raise ObjectMissing(f"no object {key!r} in {self.uri}") from exc
            raise StoreError(
                f"{self.uri}: {key}: the server said {exc.code}",
                remedy="check MINIO_ACCESS_KEY, MINIO_SECRET_KEY and the bucket's policy",
            ) from exc
        except (urllib3.exceptions.HTTPError, ConnectionError) as exc:
            raise StoreUnreachable(
                f"the object store {self.uri} did not answer: {type(exc).__name__}",
                remedy="start it, or correct MINIO_ENDPOINT",
            ) from exc


def _s3_error() -> Any:
    from minio.error import S3Error

    return S3Error


def _save(blocks: Iterator[bytes], path: Path, key: str, expected: str) -> None:
    """Write `blocks` to `path`, whole, if their SHA-256 is the expected one (or none is)."""
    found = hashlib.sha256()
    with whole_file(path) as file:
        for block in blocks:
            found.update(block)
            file.write(block)
        _check(found.hexdigest(), key, expected)


def _check(found: str, key: str, expected: str) -> None:
    if expected and found != expected:
        raise DigestMismatch(f"{key} is damaged: expected SHA-256 {expected}, found {found}")


def _checked(content: bytes, key: str, expected: str) -> bytes:
    _check(sha256_of(content) if expected else "", key, expected)
    return content

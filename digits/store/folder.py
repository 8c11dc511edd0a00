"""A folder as object store."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from digits.errors import ObjectMissing, StoreError
from digits.files import folder_of, part_of, whole_file, write_whole
from digits.store.content import BLOCK, checked, checked_key, save

if TYPE_CHECKING:
    from digits.settings import Settings

# How systems say that a file system has no hard links: Linux's own, FUSE's, macOS's.
NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK}


def open_folder(settings: Settings, uri: str) -> FileStore:
    """The store at `file:///folder`. Raises UsageError as `folder_of`."""
    del settings
    return FileStore(folder_of(uri, "the store"))


class FileStore:
    """A folder as object store."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uri = root.as_uri()

    def _path(self, key: str) -> Path:
        path = self.root / checked_key(key)
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise StoreError(
                f"{key!r} leads out of the store {self.uri} by a link",
                remedy="put what the link leads to in its place",
            )
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
        part = part_of(path)
        with self._errors(key):
            write_whole(part, content)
            try:
                os.link(part, path)
            except FileExistsError:
                return False
            except OSError as exc:
                if exc.errno not in NO_LINKS:
                    raise
                raise StoreError(
                    f"{self.uri}: expected a file system with hard links, by which one of several writers wins; "
                    f"it refused one for {key}: {exc.strerror}",
                    remedy="put the store on a disk of this machine or on NFS, or give a bucket its address s3://bucket",
                ) from exc
            finally:
                part.unlink(missing_ok=True)
        return True

    def get(self, key: str, *, sha256: str = "") -> bytes:
        """See ObjectStore."""
        with self._errors(key):
            return checked(self._path(key).read_bytes(), key, sha256)

    def download(self, key: str, path: Path, *, sha256: str = "") -> None:
        """See ObjectStore."""
        with self._errors(key), self._path(key).open("rb") as source:
            save(iter(lambda: source.read(BLOCK), b""), path, key, sha256)

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
            raise StoreError(
                f"{self.uri}: {key}: {exc.strerror or exc}",
                remedy="see that there is space, and that this user may read and write there",
            ) from exc

"""A folder as object store: `file:///folder`."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from digits.errors import ObjectMissing, StoreError
from digits.files import PART, folder_from_url, real_path, whole_file
from digits.store import Scheme, Trust
from digits.store.content import BLOCK, check_digest, check_key, check_prefix, save
from digits.tasks.task import BUILT_IN

# The error numbers of a file system without hard links, on Linux, FUSE and macOS.
NO_HARD_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK}


class FileStore:
    """A folder as object store; see ObjectStore. Raises StoreError if something else has its name."""

    trust = Trust()
    task = BUILT_IN

    def __init__(self, root: Path) -> None:
        self.root = real_path(root)  # a link to a folder that does not exist yet could not be created
        self.uri = root.as_uri()
        self._check_folder(self.root, "move it away, or name another place for the store")

    def put(self, key: str, content: bytes | Path) -> None:
        """See ObjectStore."""
        with self._errors(key), whole_file(self._path(key)) as file:
            if isinstance(content, Path):
                with content.open("rb") as source:
                    shutil.copyfileobj(source, file, BLOCK)
            else:
                file.write(content)

    def create(self, key: str, content: bytes) -> bool:
        """See ObjectStore. A hard link fails if the name exists, so exactly one writer succeeds."""
        with self._errors(key):
            try:
                with whole_file(self._path(key), replace=False) as file:
                    file.write(content)
            except FileExistsError:
                return False
            except OSError as exc:
                if exc.errno not in NO_HARD_LINKS:
                    raise
                raise StoreError(
                    f"{self.uri}: expected a file system with hard links, which let only one writer succeed; "
                    f"the one for {key} was refused: {exc.strerror}",
                    remedy="put the store on a local disk or on NFS; for a bucket, use its address s3://bucket",
                ) from exc
        return True

    def get(self, key: str, *, sha256: str = "") -> bytes:
        """See ObjectStore."""
        with self._errors(key):
            return check_digest(self._file(key).read_bytes(), key, sha256)

    def download(self, key: str, path: Path, *, sha256: str = "") -> None:
        """See ObjectStore."""
        with self._errors(key), self._file(key).open("rb") as source:
            save(iter(lambda: source.read(BLOCK), b""), path, key, sha256)

    def keys(self, prefix: str = "", *, min_age: float | None = None) -> list[str]:
        """See ObjectStore. Temporary files are not objects."""
        folder, latest = self.root / check_prefix(prefix), time.time() - (min_age or 0)
        with self._errors(prefix):
            self._check_folder(folder, "move it away, or replace it by the folder that it was")
            found = []
            for place, _, names in os.walk(folder, onerror=_unless_removed):
                for path in (Path(place, name) for name in names if not (name[0] == "." and name.endswith(PART))):
                    with contextlib.suppress(FileNotFoundError):  # removed since the listing, or a link to nothing
                        status = path.stat()
                        if stat.S_ISREG(status.st_mode) and (min_age is None or status.st_mtime <= latest):
                            found.append(path.relative_to(self.root).as_posix())
            return sorted(found)

    def exists(self, key: str) -> bool:
        """See ObjectStore."""
        with self._errors(key):
            return self._path(key).is_file()

    def delete(self, key: str) -> None:
        """See ObjectStore."""
        with self._errors(key):
            self._path(key).unlink(missing_ok=True)

    def _check_folder(self, folder: Path, remedy: str) -> None:
        """Raise StoreError if a file or a link to nothing is in the place of a folder, which would seem empty."""
        existing = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), folder)
        if existing.is_relative_to(self.root) and not existing.is_dir():
            raise StoreError(f"{existing} is not a folder", remedy=remedy)

    def _file(self, key: str) -> Path:
        """Return the path of an object that exists. A named pipe is none, because reading it would block."""
        path = self._path(key)
        if not path.is_file():
            raise FileNotFoundError(path)
        return path

    def _path(self, key: str) -> Path:
        path = self.root / check_key(key)
        if not real_path(path).is_relative_to(real_path(self.root)):
            raise StoreError(
                f"{key!r} is a link to a place outside the store {self.uri}",
                remedy="replace the link by the file or folder that it points to, or remove it if that is lost",
            )
        return path

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as exc:
            raise ObjectMissing(f"no object {key!r} in {self.uri}") from exc
        except OSError as exc:
            raise StoreError(
                f"{self.uri}: {key}: {exc.strerror or exc}",
                remedy="check that there is free space and that this user may read and write there",
            ) from exc


def _unless_removed(error: OSError) -> None:
    """Raise the error of a folder that cannot be listed, unless it is none, or none any more."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


SCHEME = Scheme("file:///folder", lambda _, uri: FileStore(folder_from_url(uri, "the store")), remote=False)

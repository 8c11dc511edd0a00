"""The files of a data set that is a folder, a ZIP file or a single file: local, in an object store, or by URL.

Nothing is unpacked to the disk, so no name in an archive can reach a file outside of it.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
import tempfile
import zipfile
from pathlib import Path
from typing import IO, Protocol

from digits.data.arrays import ARCHIVE_ERRORS, open_zip
from digits.data.idx import LIMITS
from digits.data.idx_place import Place, is_folder, read_file
from digits.errors import DataError, MissingError, ObjectMissing, ObjectRefused, UsageError
from digits.files import folder_from_url, read_named, real_path, sha256_of
from digits.settings import Settings
from digits.store import ObjectStore, open_store
from digits.tasks.task import Source

MAX_FILES = 500_000  # of a data set
MAX_PICTURE = 64 << 20  # bytes of a file in a folder of pictures
MAX_UNPACKED = 8 << 30  # bytes of all files in a ZIP file
ENDINGS = (".zip", ".npz", ".csv", ".parquet", ".gz", "-ubyte")  # of files that hold many pictures, in lower case
HIDDEN = (".", "__MACOSX", "Thumbs.db", "desktop.ini")  # beginnings of names that file managers add


class Files(Protocol):
    """The files of a data set."""

    where: str  # for messages

    def names(self) -> list[str]:
        """Return the files' sorted names, with folders separated by '/'. Raises DataError."""

    def read(self, name: str, max_bytes: int) -> bytes:
        """Return a file's content. Raises DataError if it cannot be read or has more than `max_bytes`."""


class Folder:
    """A folder, or one file of it."""

    def __init__(self, root: Path, only: str = "") -> None:
        self.where, self._root, self._only = str(root / only), root, only

    def names(self) -> list[str]:
        """See Files. Links to folders are not followed."""
        if self._only:
            return [self._only]
        found, waiting = list[str](), [""]  # relative to the root, without recursion, for folders of any depth
        while waiting:
            folder = waiting.pop()
            try:
                with os.scandir(self._root / folder) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(f"{folder}{entry.name}/")
                        elif not (entry.is_symlink() and os.path.isdir(entry.path)):  # noqa: PTH112 # see open_files
                            found.append(f"{folder}{entry.name}")
                        _check_count(len(found) + len(waiting), self.where)
            except OSError as exc:
                where = exc.filename or self._root / folder
                raise DataError(
                    f"{where} cannot be read: {exc.strerror}", remedy="allow this program to read it"
                ) from exc
        return _shown(found)

    def read(self, name: str, max_bytes: int) -> bytes:
        """See Files. Only regular files are read, because a pipe may never end, and no links to files elsewhere.

        A folder may come from someone else, and the report and the page show some of its pictures.
        """
        path = self._root / name
        try:
            if not self._only and not real_path(path).is_relative_to(real_path(self._root)):
                raise DataError(f"{path}: expected a file, found a link to a place outside of {self._root}")
            if not stat.S_ISREG(path.stat().st_mode):
                raise DataError(f"{path}: expected a file, found a pipe or device")
            return read_named(path, max_bytes)
        except OSError as exc:
            remedy = LIMITS if exc.errno == errno.EFBIG else "allow this program to read it"
            raise DataError(f"{path} cannot be read: {exc.strerror}", remedy=remedy) from exc


class Zip:
    """A ZIP file."""

    def __init__(self, file: Path | IO[bytes], where: str) -> None:
        self.where = where
        try:
            self._archive = open_zip(file)
        except ARCHIVE_ERRORS as exc:
            raise DataError(f"{where}: expected a ZIP file: {exc}") from exc
        self._members = dict[str, zipfile.ZipInfo]()
        for part in self._archive.infolist():
            name = part.filename
            if name.startswith("/") or "\\" in name or ".." in name.split("/"):
                raise DataError(
                    f"{where}: expected relative names with / and without .., found {name!r}",
                    remedy="unpack it and name the folder, or pack the folder again with another program",
                )
            name = posixpath.normpath(name)  # ./a/1.png and a//1.png are a/1.png in a folder, too
            if not part.is_dir() and self._members.setdefault(name, part) is not part:
                raise DataError(
                    f"{where}: expected a ZIP file: it has two files named {name!r}; pack it again with one of them"
                )
        _check_count(len(self._members), where)
        if (size := sum(part.file_size for part in self._members.values())) > MAX_UNPACKED:
            raise DataError(f"{where}: expected at most {MAX_UNPACKED} bytes unpacked, found {size}")

    def names(self) -> list[str]:
        """See Files."""
        return _shown(list(self._members))

    def read(self, name: str, max_bytes: int) -> bytes:
        """See Files."""
        try:
            with self._archive.open(self._members[name]) as file:  # which ends after the size that the archive states
                content = file.read(max_bytes + 1)
        except ARCHIVE_ERRORS as exc:
            raise DataError(f"{self.where}: {name} cannot be read: {exc}") from exc
        return _limited(content, max_bytes, f"{self.where}: {name}")


class Stored:
    """The objects of an object store, or one of them."""

    def __init__(self, store: ObjectStore, only: str = "") -> None:
        self.where, self.store, self.only = f"{store.uri}/{only}".rstrip("/"), store, only

    def names(self) -> list[str]:
        """See Files."""
        if self.only:
            return [self.only]
        found = self.store.keys()
        _check_count(len(found), self.where)
        return _shown(found)

    def read(self, name: str, max_bytes: int) -> bytes:
        """See Files. Raises StoreError, too, if the store refuses the request."""
        try:
            if max_bytes <= MAX_PICTURE:
                return _limited(self.store.get(name), max_bytes, f"{self.store.uri}/{name}")
            with tempfile.TemporaryDirectory() as folder:  # because `get` has a limit of its own
                self.store.download(name, path := Path(folder, "file"))
                return Folder(path.parent, path.name).read(path.name, max_bytes)
        except (ObjectMissing, ObjectRefused) as exc:  # others can write there, too, and S3 allows more keys
            raise DataError(exc.message) from exc


def open_stored(settings: Settings, address: str) -> Stored:
    """Return the objects below the address of an object store, or the one with that address if it ends like a file."""
    folder, _, name = address.rpartition("/")
    if name.lower().endswith(ENDINGS) and not folder.endswith("/"):
        return Stored(open_store(settings, folder), name)
    return Stored(open_store(settings, address))


def open_files(source: Source, place: Place | Stored, cache: Path) -> Files:
    """Return the files at a place. Those from a web server are verified and cached in the folder `cache`.

    Raises:
        UsageError: there is no place, or it is on a web server and the task does not state its files' digests.
        MissingError: there is nothing at the place.
        DataError: a file is damaged, or has another SHA-256 than the task states.
    """
    if isinstance(place, Stored):
        if not place.only.lower().endswith(".zip"):
            return place
        place.store.download(place.only, path := cache / place.only)
        return Zip(path, place.where)
    if not isinstance(place, str):
        return Stored(place)
    if is_folder(place):
        path = folder_from_url(place, "data.place")
        if not (os.path.isdir(path) or os.path.isfile(path)):  # noqa: PTH112, PTH113 # Path's raise OSError
            raise MissingError(
                f"data.place: there is no folder or file {path}", remedy="correct data.place in the task file"
            )
        if path.is_file() and path.name in source.files and sha256_of(path) != source.files[path.name].sha256:
            raise DataError(f"{path}: expected SHA-256 {source.files[path.name].sha256}, found another")
    else:
        if not source.files or not (place or source.mirrors):
            raise UsageError(
                "data: expected a place, and data.files with the SHA-256 of each file if it is on a web server",
                remedy="set data.place in the task file, or DIGITS_DATA, to a folder; docs/your-images.md shows both",
            )
        for name in source.files:
            read_file(source, name, place, cache)
        path = cache / next(iter(source.files)) if len(source.files) == 1 else cache
    if path.suffix.lower() == ".zip":
        return Zip(path, str(path))
    return Folder(path) if path.is_dir() else Folder(path.parent, path.name)


def _check_count(count: int, where: str) -> None:
    if count > MAX_FILES:
        raise DataError(f"{where}: expected at most {MAX_FILES} files, found more", remedy="name a smaller folder")


def _shown(names: list[str]) -> list[str]:
    """Return the names without those that file managers add and without task files, sorted."""
    shown = [name for name in names if not any(part.startswith(HIDDEN) and part != "." for part in name.split("/"))]
    return sorted(name for name in shown if not name.endswith(".toml"))


def _limited(content: bytes, max_bytes: int, origin: str) -> bytes:
    if len(content) > max_bytes:
        raise DataError(f"{origin}: expected at most {max_bytes} bytes, found more", remedy=LIMITS)
    return content

"""The four files of a data set in MNIST's format, in a folder, an object store, on a web server, or in the cache.

A file whose SHA-256 the task states is verified, so no mirror or cache needs to be trusted. A file without a stated
SHA-256 is read from a folder or an object store alone.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from digits.data import idx
from digits.data.download import download
from digits.errors import DataError, MissingError, Unavailable, UsageError
from digits.files import folder_from_url, read_named, sha256_of, write_whole
from digits.store import ObjectStore
from digits.tasks.task import Source

SPARE_BYTES = 1 << 20  # by which a file may exceed its content, so that a web page in its place is still recognised

KERAS = "mnist.npz"  # Keras's form of MNIST, the four arrays in one file
FOLDERS = ("", "MNIST/raw", "raw", "FashionMNIST/raw")  # the others are torchvision's
MAX_LISTED = 5

Place = str | ObjectStore


def is_folder(place: str) -> bool:
    """Return whether a place is a folder or file of this machine."""
    return bool(place) and urlsplit(place).scheme in {"", "file"}


def read_file(source: Source, file: str, place: Place, cache: Path) -> bytes:
    """Return the content of a file of a data set. Raises as `fetch.fetch`."""
    if isinstance(place, str) and is_folder(place):
        return read_folder(source, file, place)
    if file not in source.files:
        if isinstance(place, str):
            raise UsageError(
                f"data.files: expected the SHA-256 of {file}, because it comes from a server, got none",
                remedy="write data.files into the task file, or set data.place to a folder with the files",
            )
        return _read_store(source, file, place)
    cached = cache / file
    if cached.is_file():
        content = cached.read_bytes()
        if sha256_of(content) == source.files[file].sha256:
            return content
    content = read_servers(source, file, place) if isinstance(place, str) else _read_store(source, file, place)
    write_whole(cached, content)
    return content


def read_folder(source: Source, file: str, place: str) -> bytes:
    """Return the content of a file in a folder. Raises as `fetch.fetch`."""
    folder = folder_from_url(place, "DIGITS_DATA")
    try:
        if not (folder.is_dir() or (folder.name == KERAS and folder.is_file())):
            found = f"; it is a file, and of files only Keras's {KERAS} is read" if folder.exists() else ""
            raise MissingError(
                f"DIGITS_DATA or data.place: no folder {folder}{found}",
                remedy="set it to the folder with the data set's four files",
            )
        parts = [folder / part for part in FOLDERS]
        for known in (part / name for part in parts for name in names(file)):
            inner = known / known.name  # Kaggle's archive has some of the files in folders of the same name
            if (path := inner if known.is_dir() and inner.exists() else known).exists():
                if (size := path.stat().st_size) > (limit := idx.max_bytes(source, file) + SPARE_BYTES):
                    raise DataError(
                        f"{path}: expected at most {limit} bytes, found {size}; it is another file",
                        remedy="replace it by the data set's file" if file in source.files else idx.LIMITS,
                    )
                return idx.unpack(source, file, read_named(path, limit), str(path))
        for path in (folder, folder / KERAS):
            if path.is_file():
                from digits.data import arrays  # which imports NumPy

                return idx.unpack(source, file, arrays.from_keras(path, file), str(path))
        listed = sorted(path.name for path in folder.iterdir())
    except OSError as exc:  # macOS asks the user whether a terminal may read Desktop, Documents and Downloads
        raise DataError(
            f"DIGITS_DATA or data.place: {exc.filename or folder} cannot be read: {exc.strerror}",
            remedy="put the data set's files there, as files"
            if isinstance(exc, IsADirectoryError)
            else "allow this program to read it, or put the files into another folder",
        ) from exc
    raise _missing(file, str(folder), listed)


def _read_store(source: Source, file: str, store: ObjectStore) -> bytes:
    for key in names(file):
        if store.exists(key):
            return idx.unpack(source, file, store.get(key), f"{store.uri}/{key}")
    raise _missing(file, store.uri)


def names(file: str) -> tuple[str, ...]:
    """Return the names under which a file of a data set is distributed, with a hyphen or a dot before `idx`."""
    return tuple(f"{name}{end}" for name in (file, file.replace("-idx", ".idx")) for end in (".gz", ""))


def _missing(file: str, place: str, found: list[str] | None = None) -> MissingError:
    content = ""
    if found is not None:
        content = f"; it holds {', '.join(found[:MAX_LISTED]) or 'nothing'}{', …' * (len(found) > MAX_LISTED)}"
        if any(name.endswith(".csv") for name in found):
            content += ' (CSV files such as Kaggle\'s need a task file with data.format = "csv")'
    return MissingError(
        f"DIGITS_DATA or data.place: {place} holds neither {file}.gz nor {file}{content}",
        remedy=f"put the data set's files there: {', '.join(idx.FILES)}; or Keras's {KERAS}",
    )


def read_servers(source: Source, file: str, url: str) -> bytes:
    """Return the content of a file from a web address, or from a mirror if that is ''. Raises Unavailable."""
    problems = []
    for base in (url,) if url else source.mirrors:
        try:
            return download(source, file, base)
        except (DataError, OSError) as exc:
            problems.append(f"{base}: {getattr(exc, 'message', exc)}")  # not a remedy for each
    raise Unavailable(
        f"cannot get {file}: " + "; ".join(problems),
        remedy="set DIGITS_DATA to a folder or bucket with the files (digits data PLACE copies them there)",
    )

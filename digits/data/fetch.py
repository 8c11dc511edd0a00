"""Fetching of a data set from a folder, an object store, a URL, the cache or a mirror; else scikit-learn's digits.

Each file is verified by the SHA-256 of its decompressed content, so no mirror or cache needs to be trusted.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from digits.data import catalog, fallback, idx
from digits.data.catalog import Source
from digits.data.dataset import Dataset
from digits.data.download import download, find_mirror
from digits.errors import DataError, MissingError, Unavailable, UsageError
from digits.files import folder_from_url, read_named, sha256_of, sha256_of_folder, write_whole
from digits.settings import Settings
from digits.store import ObjectStore, find_scheme, open_store
from digits.tasks.task import BUILT_IN, Task

SPARE_BYTES = 1 << 20  # by which a file may exceed its content, so that a web page in its place is still recognised

KERAS = "mnist.npz"  # Keras's form of MNIST, the four arrays in one file
FOLDERS = ("", "MNIST/raw", "raw")  # the last two are torchvision's
MAX_LISTED = 5

Place = str | ObjectStore


@dataclass(frozen=True)
class Fetched:
    """A fetched data set: its name, the digest of its source, and its two parts."""

    name: str
    digest: str
    train: Dataset
    test: Dataset


def resolve(task: Task, name: str, place: Place, cache: Path) -> str:
    """Return the name of the data set that a run of the task will use, within 10 s.

    A task other than digits has one data set, of its own name. For digits, "auto" is MNIST if `place` is set, the cache
    is complete or a mirror responds, else scikit-learn's digits. The files in `place` are not checked.

    Raises:
        UsageError: there is no data set of that name.
    """
    if task.name != BUILT_IN:
        if name not in {catalog.AUTO, task.name}:
            raise UsageError(f"the task {task.name} has its own data set, got --dataset {name}", remedy="omit it")
        return task.name
    catalog.check_name(name)
    if name != catalog.AUTO:
        return name
    if place or all((cache / "mnist" / file).is_file() for file in catalog.SOURCES["mnist"].files):
        return "mnist"
    return "mnist" if find_mirror(catalog.SOURCES["mnist"]) else catalog.FALLBACK


def open_place(settings: Settings) -> Place:
    """Return the configured place of the files: a folder, a URL, an object store for an s3:// address, or ''."""
    scheme = find_scheme(settings.data)
    return open_store(settings, settings.data) if scheme and scheme.remote else settings.data


def fetch(task: Task, name: str, place: Place, cache: Path) -> Fetched:
    """Fetch the data set `name` (see `resolve`) from `place` (see `open_place`), or from a mirror if that is ''.

    Files from the network are stored in the folder `cache`, which is created if necessary.

    Raises:
        StoreError: the object store is unreachable or refused the request.
        DataError: a file is not the published one. It is not cached.
        MissingError: the place does not exist, or no server sent the file.
    """
    name = resolve(task, name, place, cache)
    if name == catalog.FALLBACK:
        return Fetched(catalog.FALLBACK, *fallback.load())
    source = catalog.SOURCES[name]
    arrays = {file: idx.parse(content, file) for file, content in files(name, place, cache)}
    train = Dataset(arrays[catalog.TRAIN_IMAGES], arrays[catalog.TRAIN_LABELS])
    test = Dataset(arrays[catalog.TEST_IMAGES], arrays[catalog.TEST_LABELS])
    return Fetched(name, source.digest(), train, test)


def files(name: str, place: Place, cache: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of each file of a data set of the catalogue, verified. Raises as `fetch`."""
    source = catalog.SOURCES[name]
    for file in source.files:
        yield file, _content(source, file, place, cache / name)


def source_digest(task: Task, place: str) -> str:
    """Return what changes when a task's own data may have changed, for the cache key of the step that fetches it.

    It is the digest of the files in a folder; '' if the task states the digests of its files; else a random value,
    because a place on the network cannot be examined without reading all of it.
    """
    if task.data.files or (not place and task.name == BUILT_IN):
        return ""
    if _is_folder(place):
        path = folder_from_url(place, "DIGITS_DATA")
        return sha256_of_folder(path) if path.is_dir() else sha256_of(path) if path.is_file() else ""
    return secrets.token_hex(8)


def check_place(task: Task, name: str, place: str) -> None:
    """Verify the files if `place` is a folder; a URL is not requested. Raises as `fetch`."""
    if task.name == BUILT_IN and _is_folder(place) and name in catalog.SOURCES:
        for file in catalog.SOURCES[name].files:
            _read_folder(catalog.SOURCES[name], file, place)


def _is_folder(place: str) -> bool:
    return bool(place) and urlsplit(place).scheme in {"", "file"}


def _content(source: Source, file: str, place: Place, cache: Path) -> bytes:
    if isinstance(place, str) and _is_folder(place):
        return _read_folder(source, file, place)
    cached = cache / file
    if cached.is_file():
        content = cached.read_bytes()
        if sha256_of(content) == source.files[file][0]:
            return content
    content = _read_servers(source, file, place) if isinstance(place, str) else _read_store(source, file, place)
    write_whole(cached, content)
    return content


def _read_folder(source: Source, file: str, place: str) -> bytes:
    folder = folder_from_url(place, "DIGITS_DATA")
    try:
        if not (folder.is_dir() or (folder.name == KERAS and folder.is_file())):
            raise MissingError(
                f"DIGITS_DATA: no folder {folder}", remedy="set it to the folder with the data set's four files"
            )
        parts = [folder / part for part in FOLDERS]
        for path in (part / name for part in parts for name in _names(file)):
            if path.exists():
                if (size := path.stat().st_size) > (limit := source.files[file][1] + SPARE_BYTES):
                    raise DataError(
                        f"{path}: expected at most {limit} bytes, found {size}; it is another file",
                        remedy="replace it by the data set's file; DIGITS_DATA is the folder",
                    )
                return idx.unpack(source, file, read_named(path, limit), str(path))
        for path in (folder, folder / KERAS):
            if path.is_file():
                return idx.unpack(source, file, idx.from_keras(path, file), str(path))
        found = sorted(path.name for path in folder.iterdir())
    except OSError as exc:  # macOS asks the user whether a terminal may read Desktop, Documents and Downloads
        raise DataError(
            f"DIGITS_DATA: {exc.filename or folder} cannot be read: {exc.strerror}",
            remedy="allow this program to read it, or put the files into another folder",
        ) from exc
    raise _missing(source, file, str(folder), found)


def _read_store(source: Source, file: str, store: ObjectStore) -> bytes:
    for key in _names(file):
        if store.exists(key):
            return idx.unpack(source, file, store.get(key), f"{store.uri}/{key}")
    raise _missing(source, file, store.uri)


def _names(file: str) -> tuple[str, ...]:
    """Return the names under which a file of a data set is distributed, with a hyphen or a dot before `idx`."""
    return tuple(f"{name}{end}" for name in (file, file.replace("-idx", ".idx")) for end in (".gz", ""))


def _missing(source: Source, file: str, place: str, found: list[str] | None = None) -> MissingError:
    content = ""
    if found is not None:
        content = f"; it holds {', '.join(found[:MAX_LISTED]) or 'nothing'}{', …' * (len(found) > MAX_LISTED)}"
        if any(name.endswith(".csv") for name in found):
            content += " (CSV files such as Kaggle's are not accepted; Kaggle's competition has another split)"
    return MissingError(
        f"DIGITS_DATA: {place} holds neither {file}.gz nor {file}{content}",
        remedy=f"put the data set's files there: {', '.join(source.files)}; or Keras's {KERAS}",
    )


def _read_servers(source: Source, file: str, url: str) -> bytes:
    problems = []
    for base in (url,) if url else source.mirrors:
        try:
            return download(source, file, base)
        except (DataError, OSError) as exc:
            problems.append(f"{base}: {exc}")
    raise Unavailable(
        f"cannot get {file}: " + "; ".join(problems),
        remedy="set DIGITS_DATA to a folder or bucket with the four files (digits data PLACE copies them there), or "
        "--dataset sklearn-digits",
    )

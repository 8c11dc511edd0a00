"""Fetching of a task's data set from its place, the cache or a mirror; or scikit-learn's digits instead of MNIST."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from digits.data import array_files, catalog, fallback, folders, idx, idx_place
from digits.data.dataset import Dataset, Images
from digits.data.idx_place import Place
from digits.data.places import MAX_PICTURE, Stored, open_files, open_stored
from digits.data.reader import as_drawings
from digits.data.screening import Findings, digest_of, named, screen
from digits.data.sources import is_mnist, resolve
from digits.errors import DataError, Unavailable, UsageError
from digits.settings import Settings
from digits.store import find_scheme
from digits.tasks.task import BUILT_IN, Task


@dataclass(frozen=True)
class Fetched:
    """A fetched data set: its name, the digest of its source, its two parts, and what was left out of them."""

    name: str
    digest: str
    train: Dataset
    test: Dataset
    findings: tuple[str, ...] = ()


def open_place(settings: Settings) -> Place | Stored:
    """Return the place of the data set: a folder, a file, a URL, what an s3:// address names, or ''."""
    scheme = find_scheme(settings.data)
    if not scheme or not scheme.remote:
        return settings.data
    stored = open_stored(settings, settings.data)
    return stored if stored.only else stored.store


def fetch(task: Task, name: str, place: Place | Stored, cache: Path) -> Fetched:
    """Fetch the data set `name` (see `resolve`) from `place` (see `open_place`), or from a mirror if that is ''.

    Files from a web server are stored in the folder `cache`, which is created if necessary.

    Raises:
        UsageError: the task states no place, or no digests of files from a web server.
        StoreError: the object store is unreachable or refused the request.
        DataError: a file is not what the task states, or too many pictures cannot be used.
        MissingError: the place does not exist, or no server sent the file.
    """
    name = resolve(task, name, place, cache)
    if name == catalog.FALLBACK:
        return Fetched(catalog.FALLBACK, *fallback.load())
    findings, cache = Findings(), cache / name
    if task.data.format == "idx":
        contents = [_read_idx(task, file, place, cache) for file in idx.FILES]
        x, y, u, v = (idx.parse(content, file) for content, file in zip(contents, idx.FILES, strict=True))
        train, test = _check_idx(task, x, y, idx.TRAIN_LABELS), _check_idx(task, u, v, idx.TEST_LABELS)
        if task.data.files:  # a published data set stays as it is
            return Fetched(name, catalog.published_digest(task.data), train, test)
        digest, parts = digest_of(contents), [named(train, idx.TRAIN_IMAGES), named(test, idx.TEST_IMAGES)]
    elif task.data.format == "folder":
        digest, parts = folders.read(task, open_files(task.data, place, cache), findings)
    else:
        digest, parts = array_files.read(task, open_files(task.data, place, cache), findings)
    train, test = screen(task, parts, findings)
    if task.data.format != "folder":  # pictures were read like drawings already
        train, test = as_drawings(task, train), as_drawings(task, test)
    return Fetched(name, digest, train, test, tuple(findings.lines()))


def _check_idx(task: Task, images: Images, labels: Images, file: str) -> Dataset:
    """Return a part of a data set. Raises DataError, which names the file of the labels, if it is not the task's."""
    try:
        return Dataset(images, labels).check(task)
    except DataError as exc:
        raise DataError(
            f"{file} and its images: {exc.message}", remedy="correct labels and image in the task file"
        ) from exc


def _read_idx(task: Task, file: str, place: Place | Stored, cache: Path) -> bytes:
    if isinstance(place, Stored):
        raise UsageError(f"expected the address of the folder with {', '.join(idx.FILES)}, got {place.where}")
    try:
        return idx_place.read_file(task.data, file, place, cache)
    except Unavailable as exc:
        if task.name == BUILT_IN:
            exc.remedy += f", or --dataset {catalog.FALLBACK}"
        raise


def files(task: Task, place: Place | Stored, cache: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of each file of a task's data set; content with a stated digest is verified.

    Raises as `fetch`.
    """
    cache /= catalog.MNIST if is_mnist(task) else task.name
    if task.data.format == "idx":
        for file in idx.FILES:
            yield file, _read_idx(task, file, place, cache)
        return
    opened = open_files(task.data, place, cache)
    if task.data.format == "folder":
        for name in opened.names():
            yield name, opened.read(name, MAX_PICTURE)
    else:
        for name, content in array_files.read_files(task.data, opened):
            yield Path(name).name.removesuffix(".gz"), content

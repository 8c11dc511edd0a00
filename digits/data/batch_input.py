"""The pictures of a batch: in a folder, a ZIP or Parquet file, or as the arrays of an IDX or NPZ file.

    pictures = open_batch(find("digits"), Path("scans"), Path(temporary))
    for load in pictures.shards(1000):
        shard = load()    # decodes up to 1000 pictures

A shard is decoded when its function is called, in any thread, so that shards that are done already cost nothing.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from digits.data import idx
from digits.data.arrays import ARCHIVE_ERRORS
from digits.data.dataset import Images
from digits.data.places import MAX_PICTURE, Files, Folder, Stored, Zip
from digits.data.reader import read_images
from digits.errors import DataError, MissingError
from digits.files import canonical_json, sha256_of
from digits.tasks.task import Task

ARRAY_NAMES = ("images", "x_test", "x", "test_images", "arr_0")  # in an NPZ file, the first of these that it has
IMAGE_COLUMNS = ("image", "picture", "bytes")  # in a Parquet file: encoded pictures, or structures with `bytes`
FORMS = (".zip", ".npz", ".parquet", "-ubyte", "-ubyte.gz")  # endings of files that hold many pictures


@dataclass(frozen=True)
class Shard:
    """Decoded pictures.

    Attributes:
        names: of the pictures.
        images: uint8 (n, *task.shape), those of all pictures in order.
        counts: how many of `images` each picture has: none if it is empty or cannot be read, several for a number.
        doubtful: for each of `images`, whether it may not be what the picture shows.
        problems: {index of a picture: why it cannot be read}.
    """

    names: Sequence[str]
    images: Images
    counts: Sequence[int]
    doubtful: Sequence[bool]
    problems: dict[int, str]


Load = Callable[[], Shard]


class Batch(Protocol):
    """The pictures of a batch."""

    count: int
    digest: str  # changes when the pictures may have changed

    def shards(self, size: int) -> Iterator[Load]:
        """Yield a function for each shard of `size` pictures; the last may have fewer."""


def open_batch(task: Task, place: Path | Stored, temporary: Path) -> Batch:
    """Open the pictures at a place. Files that hold many pictures are unpacked to, or downloaded into, `temporary`.

    Raises:
        MissingError: there is nothing at the place.
        DataError: a file is damaged, or its images have another shape than the task's.
    """
    if not isinstance(place, Path):
        if place.only:
            place.store.download(place.only, file := temporary / place.only)
            return _open_file(task, file, temporary)
        return _Pictures(task, place, [])
    if not os.path.exists(place):  # noqa: PTH110 # Path.exists raises OSError
        raise MissingError(f"there is no {place}", remedy="give a folder of pictures, or an IDX, NPZ or Parquet file")
    if place.is_file() and place.name.lower().endswith(FORMS):
        return _open_file(task, place, temporary)
    files = Folder(place) if place.is_dir() else Folder(place.parent, place.name)
    root = place if place.is_dir() else place.parent
    stats = [(root / name).stat() for name in files.names()]
    return _Pictures(task, files, [(stat.st_size, stat.st_mtime_ns) for stat in stats])


def _open_file(task: Task, path: Path, temporary: Path) -> Batch:
    name = path.name.lower()
    if name.endswith(".zip"):
        return _Pictures(task, Zip(path, str(path)), [sha256_of(path)])
    if name.endswith(".parquet"):
        return _Parquet(task, path)
    try:
        raw = path
        if name.endswith(".gz"):
            raw = temporary / "images"
            with gzip.open(path) as packed, raw.open("wb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)
        elif name.endswith(".npz"):
            with zipfile.ZipFile(path) as archive:
                found = [each for each in ARRAY_NAMES if f"{each}.npy" in archive.namelist()]
                if not found:
                    raise ValueError(f"expected an array of {', '.join(ARRAY_NAMES)}")
                raw = temporary / "images.npy"
                with archive.open(f"{found[0]}.npy") as packed, raw.open("wb") as file:
                    shutil.copyfileobj(packed, file, 1 << 20)
        images = np.load(raw, mmap_mode="r", allow_pickle=False) if name.endswith(".npz") else _map_idx(raw)
        if images.dtype != np.uint8 or images.size != len(images) * math.prod(task.shape):
            raise ValueError(f"expected images uint8 (n, {', '.join(map(str, task.shape))}), found {images.shape}")
    except (*ARCHIVE_ERRORS, IndexError, TypeError) as exc:
        raise DataError(f"{path}: expected images of the task {task.name}: {exc}") from exc
    return _Arrays(images.reshape(-1, *task.shape), sha256_of(path))


def _map_idx(path: Path) -> Any:
    with path.open("rb") as file:
        shape, offset = idx.parse_header(file.read(idx.MAX_HEADER), path.name)
    return np.memmap(path, np.uint8, "r", offset, shape)


class _Arrays:
    """Images that need no reading; each picture is one image."""

    def __init__(self, images: Images, digest: str) -> None:
        self._images, self.count, self.digest = images, len(images), digest

    def shards(self, size: int) -> Iterator[Load]:
        """See Batch."""
        for start in range(0, self.count, size):
            yield partial(self._load, start, min(start + size, self.count))

    def _load(self, start: int, stop: int) -> Shard:
        count = stop - start
        names = [str(index) for index in range(start, stop)]
        return Shard(names, np.array(self._images[start:stop]), [1] * count, [False] * count, {})


class _Pictures:
    """Picture files. `stamps` change when the files do; of objects in a store only the names are known."""

    def __init__(self, task: Task, files: Files, stamps: list[Any]) -> None:
        self._task, self._files, self._names = task, files, files.names()
        self.count, self.digest = len(self._names), sha256_of(canonical_json([self._names, stamps]))
        if not self._names:
            raise MissingError(f"{files.where} has no files", remedy="give a folder of pictures")

    def shards(self, size: int) -> Iterator[Load]:
        """See Batch."""
        for start in range(0, self.count, size):
            yield partial(self._load, self._names[start : start + size])

    def _load(self, names: list[str]) -> Shard:
        return _decode(self._task, names, [partial(self._files.read, name, MAX_PICTURE) for name in names])


class _Parquet:
    """A Parquet file with a column of encoded pictures, as data sets of Hugging Face have it."""

    def __init__(self, task: Task, path: Path) -> None:
        from pyarrow import ArrowException, parquet

        self._task, self._path, self.digest = task, path, sha256_of(path)
        try:
            file = parquet.ParquetFile(path)
        except (ArrowException, OSError) as exc:
            raise DataError(f"{path}: expected a Parquet file: {exc}") from exc
        found = [name for name in IMAGE_COLUMNS if name in file.schema_arrow.names]
        if not found:
            raise DataError(f"{path}: expected a column of {', '.join(IMAGE_COLUMNS)}, got {file.schema_arrow.names}")
        self._column, self.count = found[0], file.metadata.num_rows

    def shards(self, size: int) -> Iterator[Load]:
        """See Batch."""
        from pyarrow import parquet

        start = 0
        for rows in parquet.ParquetFile(self._path).iter_batches(size, columns=[self._column]):
            values = rows.column(0).to_pylist()
            names = [str(index) for index in range(start, start + len(values))]
            yield partial(self._load, names, values)
            start += len(values)

    def _load(self, names: list[str], values: list[Any]) -> Shard:
        return _decode(self._task, names, [partial(_encoded, value) for value in values])


def _encoded(value: Any) -> bytes:
    """Return the encoded picture in a column's value. Raises DataError."""
    value = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(value, bytes):
        raise DataError(f"expected an encoded picture, got {type(value).__name__}")
    return value


def _decode(task: Task, names: list[str], contents: Sequence[Callable[[], bytes]]) -> Shard:
    images, counts, doubtful, problems = list[Images](), list[int](), list[bool](), dict[int, str]()
    for index, content in enumerate(contents):
        try:
            found = read_images(task, io.BytesIO(content()))
        except DataError as exc:
            found, problems[index] = [], exc.message
        counts.append(len(found))
        images += [each.image for each in found]
        doubtful += [each.doubtful for each in found]
    stacked = np.array(images, np.uint8).reshape(-1, *task.shape)
    return Shard(names, stacked, counts, doubtful, problems)

"""The pictures of a batch: in a folder, a ZIP or Parquet file, or as the arrays of an IDX or NPZ file.

    pictures = open_batch(find("digits"), Path("scans"), Path(temporary))
    for load in pictures.shards(1000):
        shard = load()    # decodes up to 1000 pictures

A shard is decoded when its function is called, in any thread, so that shards that are done already cost nothing.
"""

from __future__ import annotations

import errno
import gzip
import io
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from digits.data import idx
from digits.data.arrays import ARCHIVE_ERRORS, open_zip
from digits.data.dataset import Images
from digits.data.number import Digit, images_of
from digits.data.places import MAX_PICTURE, MAX_UNPACKED, Files, Folder, Stored, Zip
from digits.data.reader import read_images
from digits.data.touching import is_clear
from digits.errors import DataError, Interrupted, MissingError
from digits.files import cannot_write, canonical_json, sha256_of
from digits.tasks.task import Task

ARRAY_NAMES = ("images", "x_test", "x", "test_images", "arr_0")  # in an NPZ file, the first of these that it has
IMAGE_COLUMNS = ("image", "picture", "bytes")  # in a Parquet file: encoded pictures, or structures with `bytes`
MAX_SHARD = 256 << 20  # bytes of the encoded pictures of a shard from a Parquet file, on average
ROWS = 16  # that are read at a time: a small file may hold a large picture once, for many rows
FORMS = (".zip", ".npz", ".parquet", "-ubyte", "-ubyte.gz")  # endings of files that hold many pictures
_NO_IMAGE = np.zeros((0, 0), np.uint8)


@dataclass(frozen=True)
class Shard:
    """Decoded pictures.

    Attributes:
        names: of the pictures.
        images: uint8 (n, *task.shape), those of all pictures in order.
        counts: how many of `images` each picture has: none if it is empty or cannot be read, several for a number.
        doubtful: for each of `images`, whether it may not be what the picture shows.
        problems: {index of a picture: why it cannot be read}.
        undecided: {index of a picture: its digits without images}, which `decide` may divide. The picture's `images`
            are then those of `images_of`.
    """

    names: Sequence[str]
    images: Images
    counts: Sequence[int]
    doubtful: Sequence[bool]
    problems: dict[int, str]
    undecided: dict[int, list[Digit]] = field(default_factory=dict)


Load = Callable[[], Shard]


class Batch(Protocol):
    """The pictures of a batch."""

    count: int
    digest: str  # changes when the pictures may have changed
    limit: int  # greatest size of a shard

    def shards(self, size: int) -> Iterator[Load]:
        """Yield a function for each shard of `size` pictures; the last may have fewer."""


def open_batch(task: Task, place: Path | Stored, temporary: Path, stopped: threading.Event | None = None) -> Batch:
    """Open the pictures at a place. Files that hold many pictures are unpacked to, or downloaded into, `temporary`.

    When `stopped` is set, shards that are being decoded raise Interrupted.

    Raises:
        MissingError: there is nothing at the place, or no space in `temporary`.
        DataError: a file is damaged, or its images have another shape than the task's.
    """
    decoder = _Decoder(task, stopped or threading.Event())
    if not isinstance(place, Path):
        if place.only:
            place.store.download(place.only, file := temporary / place.only)
            return _open_file(decoder, file, temporary)
        return _Pictures(decoder, place, [])
    if not os.path.exists(place):  # noqa: PTH110 # Path.exists raises OSError
        raise MissingError(f"there is no {place}", remedy="give a folder of pictures, or an IDX, NPZ or Parquet file")
    if place.is_file() and place.name.lower().endswith(FORMS):
        return _open_file(decoder, place, temporary)
    files = Folder(place) if place.is_dir() else Folder(place.parent, place.name)
    root = place if place.is_dir() else place.parent
    return _Pictures(decoder, files, [_stamp(root / name) for name in files.names()])


def _stamp(path: Path) -> list[int]:
    try:
        stat = path.stat()
    except OSError:  # a link to nothing, which cannot be read as a picture either
        return []
    return [stat.st_size, stat.st_mtime_ns]


def _open_file(decoder: _Decoder, path: Path, temporary: Path) -> Batch:
    name, task = path.name.lower(), decoder.task
    if name.endswith(".zip"):
        return _Pictures(decoder, Zip(path, str(path)), [sha256_of(path)])
    if name.endswith(".parquet"):
        return _Parquet(decoder, path)
    try:
        raw = path
        if name.endswith(".gz"):
            with gzip.open(path) as packed:
                raw = _unpack(packed, temporary / "images")
        elif name.endswith(".npz"):
            with open_zip(path) as archive:
                found = [each for each in ARRAY_NAMES if f"{each}.npy" in archive.namelist()]
                if not found:
                    raise ValueError(f"expected an array of {', '.join(ARRAY_NAMES)}")
                with archive.open(f"{found[0]}.npy") as packed:
                    raw = _unpack(packed, temporary / "images.npy")
        load = (
            partial(np.load, raw, mmap_mode="r", allow_pickle=False)
            if name.endswith(".npz")
            else partial(_map_idx, raw)
        )
        images = load()
        # Not any shape of that size: channels may come first, and another order is another image.
        if images.dtype != np.uint8 or images.shape[1:] not in {task.shape, task.input_shape, (math.prod(task.shape),)}:
            raise ValueError(
                f"expected images uint8 (n, {', '.join(map(str, task.shape))}), found {images.dtype} {images.shape}"
            )
    except ARCHIVE_ERRORS as exc:
        if isinstance(exc, OSError) and exc.errno in {errno.ENOSPC, errno.EDQUOT}:  # it is unpacked
            raise cannot_write(temporary, exc) from exc
        raise DataError(f"{path}: expected images of the task {task.name}: {exc}") from exc
    return _Arrays(load, len(images), task.shape, sha256_of(path))


def _unpack(packed: IO[bytes] | gzip.GzipFile, path: Path) -> Path:
    """Write a decompressed file, and return its path. Raises ValueError if it has more than MAX_UNPACKED bytes."""
    with path.open("wb") as file:
        while block := packed.read(1 << 20):
            file.write(block)
            if file.tell() > MAX_UNPACKED:
                raise ValueError(f"it has more than {MAX_UNPACKED} bytes unpacked")
    return path


def _map_idx(path: Path) -> Any:
    with path.open("rb") as file:
        shape, offset = idx.parse_header(file.read(idx.MAX_HEADER), path.name)
    if (size := path.stat().st_size) != (expected := offset + math.prod(shape)):
        raise ValueError(f"expected {expected} bytes for the shape {shape}, found {size}")
    return np.memmap(path, np.uint8, "r", offset, shape)


class _Arrays:
    """Images that need no reading; each picture is one image."""

    limit = sys.maxsize

    def __init__(self, load: Callable[[], Images], count: int, shape: tuple[int, ...], digest: str) -> None:
        self._map, self.count, self._shape, self.digest = load, count, shape, digest

    def shards(self, size: int) -> Iterator[Load]:
        """See Batch."""
        for start in range(0, self.count, size):
            yield partial(self._load, start, min(start + size, self.count))

    def _load(self, start: int, stop: int) -> Shard:
        count = stop - start
        names = [str(index) for index in range(start, stop)]
        # Mapped for each shard, because what was read of a mapping stays in memory until it is closed.
        images = np.array(self._map()[start:stop]).reshape(count, *self._shape)
        return Shard(names, images, [1] * count, [False] * count, {})


class _Pictures:
    """Picture files. `stamps` change when the files do; of objects in a store only the names are known."""

    limit = sys.maxsize

    def __init__(self, decoder: _Decoder, files: Files, stamps: list[Any]) -> None:
        self._decoder, self._files, self._names = decoder, files, files.names()
        self.count, self.digest = len(self._names), sha256_of(canonical_json([self._names, stamps]))
        if not self._names:
            raise MissingError(f"{files.where} has no files", remedy="give a folder of pictures")

    def shards(self, size: int) -> Iterator[Load]:
        """See Batch."""
        for start in range(0, self.count, size):
            yield partial(self._load, self._names[start : start + size])

    def _load(self, names: list[str]) -> Shard:
        return self._decoder.decode(names, [partial(self._files.read, name, MAX_PICTURE) for name in names])


class _Parquet:
    """A Parquet file with a column of encoded pictures, as data sets of Hugging Face have it."""

    def __init__(self, decoder: _Decoder, path: Path) -> None:
        from pyarrow import ArrowException, parquet

        self._decoder, self._path, self.digest = decoder, path, sha256_of(path)
        try:
            file = parquet.ParquetFile(path)
        except (ArrowException, OSError) as exc:
            raise DataError(f"{path}: expected a Parquet file: {exc}") from exc
        names = file.schema_arrow.names
        found = [name for name in IMAGE_COLUMNS if name in names]
        if not found or names.count(found[0]) > 1:
            raise DataError(f"{path}: expected one column of {', '.join(IMAGE_COLUMNS)}, got {names}")
        self._column, self.count = found[0], file.metadata.num_rows
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        size = sum(group.total_byte_size for group in groups)
        self.limit = max(1, MAX_SHARD * self.count // max(1, size))

    def shards(self, size: int) -> Iterator[Load]:
        """See Batch."""
        from pyarrow import ArrowException, parquet

        values, held, start = list[Any](), 0, 0
        try:
            for rows in parquet.ParquetFile(self._path).iter_batches(ROWS, columns=[self._column]):
                values += rows.column(0).to_pylist()
                held += rows.nbytes
                if held > 4 * MAX_SHARD:
                    raise DataError(f"{self._path}: expected at most {4 * MAX_SHARD} bytes in {size} rows, found more")
                while len(values) >= size:
                    yield partial(self._load, start, values[:size])
                    values, held, start = values[size:], 0, start + size
        except (ArrowException, OSError) as exc:
            raise DataError(f"{self._path}: cannot read the rows after {start + len(values)}: {exc}") from exc
        if values:
            yield partial(self._load, start, values)

    def _load(self, start: int, values: list[Any]) -> Shard:
        names = [str(index) for index in range(start, start + len(values))]
        return self._decoder.decode(names, [partial(_encoded, value) for value in values])


def _encoded(value: Any) -> bytes:
    """Return the encoded picture in a column's value. Raises DataError."""
    value = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(value, bytes):
        raise DataError(f"expected an encoded picture, got {type(value).__name__}")
    return value


@dataclass(frozen=True)
class _Decoder:
    task: Task
    stopped: threading.Event

    def decode(self, names: list[str], contents: Sequence[Callable[[], bytes]]) -> Shard:
        """Decode pictures. Raises Interrupted when `stopped` is set."""
        images, counts, doubtful, problems = list[Images](), list[int](), list[bool](), dict[int, str]()
        undecided = dict[int, list[Digit]]()
        for index, content in enumerate(contents):
            if self.stopped.is_set():
                raise Interrupted("the batch was interrupted")
            try:
                found = read_images(self.task, io.BytesIO(content()))
            except DataError as exc:
                found, problems[index] = [], exc.message
            own = images_of(found)
            counts.append(len(own))
            images += own
            doubtful += [each.doubtful for each in found] + [True] * (len(own) - len(found))
            if not all(is_clear(each.counts) for each in found):
                undecided[index] = [_without_images(each) for each in found]
        stacked = np.array(images, np.uint8).reshape(-1, *self.task.shape)
        return Shard(names, stacked, counts, doubtful, problems, undecided)


def _without_images(digit: Digit) -> Digit:
    """Return a digit with what `decide` needs of it, which takes little memory."""
    ways = tuple(tuple(map(_without_images, way)) for way in digit.ways)
    return digit._replace(image=_NO_IMAGE, ink=_NO_IMAGE, ways=ways)

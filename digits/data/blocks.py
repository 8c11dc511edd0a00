"""Labelled images in blocks, of which a reader holds one at a time, so that a data set may be larger than the memory.

In a folder:

    0000.npz, 0001.npz, …   the blocks, files of `Dataset.save`, each with at most BLOCK_BYTES of images
    index.json              {"shape": of an image, "blocks": [{"count": images, "digest": of the block}, …]}
"""

from __future__ import annotations

import itertools
import math
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from digits.data.dataset import REMEDY, Dataset, Indices, Labels, load_labels
from digits.errors import DataError
from digits.files import canonical_json, parse_json, sha256_of, write_json

BLOCK_BYTES = 128 << 20
INDEX = "index.json"


@dataclass(frozen=True)
class Blocks:
    """A data set in blocks.

    Attributes:
        shape: (height, width) of an image, in colour (height, width, 3).
        counts: the number of images in each block.
        load: returns the block of that number, and raises DataError if it is damaged or changed.
    """

    shape: tuple[int, ...]
    counts: tuple[int, ...]
    load: Callable[[int], Dataset]

    def __len__(self) -> int:
        return sum(self.counts)

    def followed_by(self, last: Dataset) -> Blocks:
        """Return these blocks and one more."""
        return Blocks(
            self.shape,
            (*self.counts, len(last)),
            lambda number: self.load(number) if number < len(self.counts) else last,
        )

    def take(self, chosen: Indices) -> Dataset:
        """Return the images of these indices in memory, in this order."""
        return self._assemble(len(chosen), self._divide(chosen))

    def arrange(self, chosen: Indices, folder: Path) -> str:
        """Write the images of these indices, in this order, to a folder. Return the digest of the data set.

        If they need several blocks, each block of the source is read once, and its images are divided among temporary
        files, one for each new block. These are then put in order. So no more than about two blocks are in memory.
        """
        size = block_size(self.shape)
        if len(chosen) <= size:
            return write(folder, [self.take(chosen)])
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch, ExitStack() as stack:
            counts = [min(size, len(chosen) - start) for start in range(0, len(chosen), size)]
            files = [stack.enter_context(Path(scratch, str(number)).open("wb+")) for number in range(len(counts))]
            for positions, part in self._divide(chosen):
                targets = positions // size
                for target in np.unique(targets):
                    members = np.flatnonzero(targets == target)
                    for array in (positions[members] % size, part.images[members], part.labels[members]):
                        np.save(files[target], array)
            return write(
                folder, (self._assemble(count, _read_parts(file)) for file, count in zip(files, counts, strict=True))
            )

    def _divide(self, chosen: Indices) -> Iterator[tuple[Indices, Dataset]]:
        """Yield, block by block, the positions in `chosen` of the block's images, and these images."""
        order, starts = np.argsort(chosen, kind="stable"), np.cumsum([0, *self.counts])
        ends = np.searchsorted(chosen, starts, sorter=order)
        for number, (first, last) in enumerate(itertools.pairwise(ends)):
            positions = order[first:last]
            if len(positions):
                yield positions, self.load(number)[chosen[positions] - starts[number]]

    def _assemble(self, count: int, parts: Iterable[tuple[Indices, Dataset]]) -> Dataset:
        images, labels = np.empty((count, *self.shape), np.uint8), np.empty(count, np.uint8)
        for positions, part in parts:
            images[positions], labels[positions] = part.images, part.labels
        return Dataset(images, labels)


def in_memory(dataset: Dataset) -> Blocks:
    """Return a data set as one block."""
    return Blocks(dataset.images.shape[1:], (len(dataset),), lambda _: dataset)


def read(folder: Path, digest: str) -> Blocks:
    """Return the data set in a folder. A block is read and verified each time that it is loaded.

    Raises:
        DataError: the index is missing or damaged, or the data set's digest is not `digest`.
    """
    try:
        index = parse_json((folder / INDEX).read_bytes())
        found = sha256_of(canonical_json(index))
        counts = tuple(int(block["count"]) for block in index["blocks"])
        digests = [str(block["digest"]) for block in index["blocks"]]
        shape = tuple(int(side) for side in index["shape"])
    except (OSError, ValueError, TypeError, KeyError) as exc:
        raise DataError(f"cannot read the data set {folder}: {exc}", remedy=REMEDY) from exc
    if found != digest:
        raise DataError(f"the data set {folder} changed: expected digest {digest}, found {found}", remedy=REMEDY)
    return Blocks(shape, counts, lambda number: Dataset.load(_path(folder, number), digest=digests[number]))


def read_labels(folder: Path, count: int) -> Labels:
    """Return the labels of the `count` blocks in a folder, unverified, without reading the images. Raises DataError."""
    return np.concatenate([load_labels(_path(folder, number)) for number in range(count)])


def write(folder: Path, blocks: Iterable[Dataset]) -> str:
    """Write blocks to a folder, in place of what is there. Return the data set's digest, which is that of the index."""
    shutil.rmtree(folder, ignore_errors=True)
    shape, index = list[int](), list[dict[str, object]]()
    for number, block in enumerate(blocks):
        shape = list(block.images.shape[1:])
        index.append({"count": len(block), "digest": block.save(_path(folder, number))})
    content = {"shape": shape, "blocks": index}
    write_json(folder / INDEX, content)
    return sha256_of(canonical_json(content))


def cut(dataset: Dataset) -> Iterator[Dataset]:
    """Yield a data set in blocks, at least one."""
    size = block_size(dataset.images.shape[1:])
    for start in range(0, max(1, len(dataset)), size):
        yield dataset[start : start + size]


def _read_parts(file: IO[bytes]) -> Iterator[tuple[Indices, Dataset]]:
    """Yield what `Blocks.arrange` wrote to a temporary file, and empty it."""
    end = file.tell()
    file.seek(0)
    while file.tell() < end:
        positions, images, labels = (np.load(file, allow_pickle=False) for _ in range(3))
        yield positions, Dataset(images, labels)
    file.truncate(0)


def block_size(shape: tuple[int, ...]) -> int:
    """Return the number of images of that shape in a block."""
    return max(1, BLOCK_BYTES // math.prod(shape))


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:04}.npz"

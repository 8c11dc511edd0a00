"""Labelled images in blocks, of which a reader holds one at a time, so that a data set may be larger than the memory.

A block has about BLOCK_BYTES of images at most. See `block_index` for where the blocks are.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digits.data import block_index
from digits.data.block_index import Block, Index
from digits.data.dataset import REMEDY, Dataset, Labels, load_labels
from digits.errors import DataError

BLOCK_BYTES = 128 << 20
FILLED = 0.9  # of a block, at most and on average, because the numbers of images in blocks differ by chance


@dataclass(frozen=True)
class Blocks:
    """A data set in blocks.

    Attributes:
        shape: (height, width) of an image, in colour (height, width, 3).
        blocks: what is known of each block, at least one.
        load: returns the block of that number, and raises DataError if it is missing, damaged or changed.
    """

    shape: tuple[int, ...]
    blocks: tuple[Block, ...]
    load: Callable[[int], Dataset]

    def __len__(self) -> int:
        return sum(block.count for block in self.blocks)

    @property
    def largest(self) -> int:
        """Return the number of images in the largest block."""
        return max(block.count for block in self.blocks)


def in_memory(dataset: Dataset) -> Blocks:
    """Return a data set as one block, whose digest is '', because nothing compares it."""
    return Blocks(dataset.images.shape[1:], (Block(len(dataset), digest=""),), lambda _: dataset)


def read(folder: Path, digest: str, load_stored: Callable[[str, str], Dataset] | None = None) -> Blocks:
    """Return the data set in a folder. A block is read and verified each time that it is loaded.

    `load_stored(key, digest)` returns a block from the object store, which fetched sets do not need. If one is damaged,
    it is called for all others, too, so that it deletes all damaged ones and one run makes them again.

    Raises:
        DataError: the index is missing or damaged, or the data set's digest is not `digest`.
    """
    try:
        index = block_index.read(folder)
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as exc:
        raise DataError(f"cannot read the data set {folder}: {exc}", remedy=REMEDY) from exc
    if (found := index.digest()) != digest:
        raise DataError(f"the data set {folder} changed: expected digest {digest}, found {found}", remedy=REMEDY)

    def load(number: int) -> Dataset:
        expected = index.blocks[number].digest
        if index.stored and load_stored:
            try:
                return load_stored(index.stored[number], expected)
            except DataError:
                for name, block in zip(index.stored, index.blocks, strict=True):
                    with contextlib.suppress(DataError):
                        load_stored(name, block.digest)
                raise
        return Dataset.load(_path(folder, number), digest=expected)

    return Blocks(index.shape, index.blocks, load)


def read_labels(folder: Path, number: int) -> Labels:
    """Return the labels of a block in a folder, unverified, without reading the images. Raises DataError."""
    return load_labels(_path(folder, number))


def write(folder: Path, blocks: Iterable[Dataset]) -> str:
    """Write blocks to a folder, in place of what is there. Return the data set's digest."""
    shutil.rmtree(folder, ignore_errors=True)
    shape, written = tuple[int, ...](), list[Block]()
    for number, block in enumerate(blocks):
        shape = block.images.shape[1:]
        written.append(Block(len(block), block.save(_path(folder, number))))
    index = Index(shape, tuple(written))
    index.write(folder)
    return index.digest()


def cut(dataset: Dataset) -> Iterator[Dataset]:
    """Yield a data set in blocks, at least one.

    If it needs several, the digest of an image and its label determines the block, so that a block is a random sample
    whatever the order of the images, and a changed image changes two blocks at most. Equal images are divided evenly.
    The number of blocks is a power of two. It changes only if the number of images doubles or halves.
    """
    size = max(1, BLOCK_BYTES // math.prod(dataset.images.shape[1:]))
    if len(dataset) <= size:
        yield dataset
        return
    pairs = zip(dataset.images, dataset.labels, strict=True)
    digests = np.array([hashlib.sha256(image.tobytes() + bytes([label])).digest() for image, label in pairs], "S32")
    order, ranks = np.argsort(digests, kind="stable"), np.arange(len(dataset))
    digests = digests[order]
    is_first = np.append(True, digests[1:] != digests[:-1])
    occurrences = ranks - np.maximum.accumulate(np.where(is_first, ranks, 0))  # of equal images, from 0
    numbers = digests.view(">u4")[:: digests.itemsize // 4] + occurrences
    count = 1 << math.ceil(math.log2(len(dataset) / size / FILLED))
    for number in range(count):
        chosen = order[numbers % count == number]
        if len(chosen):
            yield dataset[chosen]


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:04}.npz"

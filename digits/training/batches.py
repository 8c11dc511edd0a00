"""The batches of an epoch, from a data set that is in memory or is read block by block."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from digits.data.blocks import Blocks
from digits.data.dataset import Dataset, Images, Indices, Labels, join
from digits.tasks.task import Task


@dataclass(frozen=True)
class Batches:
    """The training images in batches.

    In an epoch each image of the data set occurs `repeats` times. Each of the `generated` images occurs once for each
    block; a block that is smaller than the largest one gets fewer of them, in proportion.

    A set of one block stays in memory, and its images are in random order in each epoch. The blocks of a larger set are
    in random order, and so are the images within each; while a block is trained on, the next one is read. Each block is
    a random sample of the images (`blocks.cut`).

    Attributes:
        images: the data set.
        task: whose images they are.
        repeats: how many times an image occurs in an epoch.
        generated: further images.
    """

    images: Blocks
    task: Task
    repeats: int
    generated: Dataset

    def __len__(self) -> int:
        """Return the number of images in an epoch."""
        return sum(block.count * self.repeats + self._added(block.count) for block in self.images.blocks)

    def epoch(self, random: np.random.Generator, size: int, most: int) -> Iterator[tuple[Images, Labels]]:
        """Yield an epoch's batches of `size` images, at most `most` of them at a time.

        `random` determines the order. The last images, which do not fill a batch, are left out. The images are uint8
        `(batches, size, height, width, channels)`, the labels uint8 `(batches, size)`.

        Raises:
            DataError: a block is damaged, or not what the task states.
        """
        rest = self.generated[:0]  # images of the blocks before that did not fill a batch
        for number, block in self._blocks(random.permutation(len(self.images.blocks))):
            count = self.images.blocks[number].count
            indices = np.concatenate([np.tile(np.arange(count), self.repeats), np.arange(count, len(block))])
            order, start = indices[random.permutation(len(indices))], 0
            while start < len(order):
                end = start + most * size - len(rest)
                part = join(rest, block[order[start:end]])
                start, whole = end, len(part) // size * size
                rest = part[whole:]
                if whole:
                    images = part.images[:whole].reshape(-1, size, *self.task.input_shape)
                    yield images, part.labels[:whole].reshape(-1, size)

    def whole(self) -> Dataset:
        """Return all images of an epoch, without generated ones, in memory."""
        return join(*[self._load(number) for number in range(len(self.images.blocks))] * self.repeats)

    def _added(self, count: int) -> int:
        return len(self.generated) * count // self.images.largest

    def _load(self, number: int) -> Dataset:
        """Return a block's images, and then the generated ones that it gets."""
        block = self.images.load(number).check(self.task)
        added = self._added(len(block))
        return join(block, self.generated[:added]) if added else block

    @cached_property
    def _only(self) -> Dataset:
        return self._load(0)

    def _blocks(self, order: Indices) -> Iterator[tuple[int, Dataset]]:
        """Yield the blocks of these numbers; while one is in use, the next one is read."""
        if len(order) == 1:
            yield 0, self._only
            return
        with ThreadPoolExecutor(1) as reader:
            loads = reader.submit(self._load, order[0])
            for number, following in zip(order, [*order[1:], None], strict=True):
                block = loads.result()
                if following is not None:
                    loads = reader.submit(self._load, following)
                yield number, block

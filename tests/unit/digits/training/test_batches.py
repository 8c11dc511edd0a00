"""The batches of an epoch, from one block and from several."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from digits.data import blocks
from digits.data.dataset import Dataset, empty
from digits.errors import DataError
from digits.tasks.task import find
from digits.training.batches import Batches

TASK = dataclasses.replace(find("digits"), height=8, width=8)


def numbered(count: int, first: int = 0) -> Dataset:
    """Return images that state their number in two pixels."""
    images = np.zeros((count, 8, 8), np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.divmod(np.arange(first, first + count), 256)
    return Dataset(images, (np.arange(first, first + count) % 10).astype(np.uint8))


def numbers(batches: Batches, seed: int = 0, size: int = 16, most: int = 5) -> list[int]:
    """Return the numbers of an epoch's images in their order, checked against their labels."""
    found = list[int]()
    for images, labels in batches.epoch(np.random.default_rng(seed), size, most):
        assert images.shape == (len(labels), size, 8, 8, 1)
        assert 1 <= len(labels) <= most
        part = images[:, :, 0, 0, 0].astype(int) * 256 + images[:, :, 0, 1, 0]
        assert np.array_equal(part % 10, labels)
        found += part.ravel().tolist()
    return found


def stored(folder: Path, count: int, each: int) -> blocks.Blocks:
    """Return a data set in blocks of that many images."""
    parts = [numbered(count)[start : start + each] for start in range(0, count, each)]
    return blocks.read(folder, blocks.write(folder, parts))


@pytest.mark.parametrize("each", [1000, 333, 100, 7])
def test_an_epoch_has_each_image_as_often_as_it_states(tmp_path: Path, each: int) -> None:
    """Each image occurs `repeats` times, apart from the few that do not fill a batch, in the order of the seed."""
    batches = Batches(stored(tmp_path, 1000, each), TASK, 3, empty((8, 8)))
    found = numbers(batches)
    assert len(batches) == 3000
    assert len(found) == 3000 // 16 * 16
    assert (Counter(range(1000)) + Counter(range(1000)) + Counter(range(1000)) - Counter(found)).total() == 3000 % 16
    assert found == numbers(batches, most=50)
    assert found != numbers(batches, seed=1)
    assert sorted(found[:160]) != found[:160]


def test_generated_images_are_shared_out_among_the_blocks(tmp_path: Path) -> None:
    """Each block gets the generated images once, a smaller one fewer of them in proportion."""
    batches = Batches(stored(tmp_path, 250, 100), TASK, 1, numbered(10, 1000))
    found = [number for number in numbers(batches, size=1) if number >= 1000]
    assert len(batches) == 275
    assert Counter(found) == Counter([*range(1000, 1010)] * 2 + [*range(1000, 1005)])


def test_the_images_of_an_epoch_are_mixed(tmp_path: Path) -> None:
    """The blocks come in random order, and the images of each in random order; the next epoch has another order."""
    batches, random = Batches(stored(tmp_path, 1000, 100), TASK, 1, empty((8, 8))), np.random.default_rng(0)
    epochs = []
    for _ in range(2):
        images = np.concatenate([images for images, _ in batches.epoch(random, 10, 3)])[:, :, 0]
        epochs.append((images[:, :, 0, 0].astype(int) * 256 + images[:, :, 1, 0]).ravel())
    for order in epochs:
        assert [set(part // 100) for part in order.reshape(10, 100)] != [{n} for n in range(10)]
        assert all(len(set(part // 100)) == 1 for part in order.reshape(10, 100))
    assert epochs[0].tolist() != epochs[1].tolist()


def test_a_damaged_block_ends_the_epoch(tmp_path: Path) -> None:
    """A block that is damaged while the ones before it are in use ends the epoch with its name."""
    batches = Batches(stored(tmp_path, 1000, 100), TASK, 1, empty((8, 8)))
    epoch = batches.epoch(np.random.default_rng(0), 10, 3)
    next(epoch)
    for path in tmp_path.glob("0*.npz"):
        path.write_bytes(b"damaged")
    with pytest.raises(DataError, match="cannot read the data set"):
        list(epoch)


def test_an_image_of_another_shape_is_refused(tmp_path: Path) -> None:
    """A block whose images are not the task's is refused."""
    batches = Batches(stored(tmp_path, 10, 10), find("digits"), 1, empty((28, 28)))
    with pytest.raises(DataError, match=r"\(28, 28\)"):
        next(batches.epoch(np.random.default_rng(0), 2, 3))

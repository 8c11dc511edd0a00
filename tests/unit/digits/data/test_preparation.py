"""Preparation of training and validation images from one block and from several."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from digits import events
from digits.data import blocks, preparation
from digits.data.dataset import Dataset, empty, join
from digits.data.preparation import Prepared
from digits.data.stored_blocks import StoredBlocks
from digits.errors import DataError
from digits.settings import Settings
from digits.store import open_store

SHAPE = (9, 12)


def numbered(count: int) -> Dataset:
    """Return images of ten classes that state their number, sorted by class."""
    found = np.zeros((count, *SHAPE), np.uint8)
    found[:, 0, 0], found[:, 0, 1] = np.divmod(np.arange(count), 256)
    return Dataset(found, np.sort(np.arange(count) % 10).astype(np.uint8))


def numbers(dataset: Dataset) -> list[int]:
    first, second = dataset.images[:, 0, 0].astype(int), dataset.images[:, 0, 1]
    return (first * 256 + second).tolist()


class World:
    """A home, in which data sets are fetched and prepared."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = open_store(Settings(home=folder / "home"))
        self.stored = StoredBlocks(self.store)

    def prepare(self, dataset: Dataset, corrected: Dataset, seed: int = 0, test: Dataset | None = None) -> Prepared:
        """Fetch and prepare a data set."""
        digest = blocks.write(self.folder / "fetched", blocks.cut(dataset))
        return preparation.prepare(
            self.folder / "fetched", digest, corrected, test=test or empty(SHAPE), share=12, seed=seed, code="1",
            store=self.store, folder=self.folder / "train",
        )  # fmt: skip

    def read(self, prepared: Prepared) -> blocks.Blocks:
        """Return the training set."""
        return blocks.read(self.folder / "train", prepared.train, self.stored.load)

    def made(self) -> int:
        """Return the number of blocks that the last preparation made."""
        lines = [json.loads(line)["text"] for line in (self.folder / "events").read_text().splitlines()]
        return int(lines[-1].split()[1])


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A block has 64 images."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 64 * 9 * 12)
    monkeypatch.setenv(events.VARIABLE, str(tmp_path / "events"))
    return World(tmp_path)


@pytest.mark.parametrize(("count", "held"), [(60, 10), (1000, 94)])
def test_each_image_is_for_training_or_for_validation(world: World, count: int, held: int) -> None:
    """About one in twelve images is for validation and the others for training, from one block or from several."""
    prepared = world.prepare(numbered(count), empty(SHAPE))
    train = world.read(prepared)
    images = join(*map(train.load, range(len(train.blocks))))
    assert sorted(numbers(images) + numbers(prepared.validation)) == list(range(count))
    assert len(prepared.validation) == held
    assert np.array_equal(images.labels, numbered(count).labels[numbers(images)])
    assert world.prepare(numbered(count), empty(SHAPE)).train == prepared.train
    assert world.prepare(numbered(count), empty(SHAPE), seed=1).train != prepared.train


@pytest.mark.parametrize("count", [24, 1000])
def test_no_validation_image_is_trained_on(world: World, count: int) -> None:
    """Copies of an image are all for training, or it is for validation, also if they are in several blocks."""
    images = numbered(count)
    prepared = world.prepare(join(images, images, images[: count // 2]), empty(SHAPE))
    train = world.read(prepared)
    trained = Counter(number for place in range(len(train.blocks)) for number in numbers(train.load(place)))
    held = set(numbers(prepared.validation))
    assert held
    assert trained == Counter({n: 2 + (n < count // 2) for n in range(count) if n not in held})


def test_each_class_is_trained_on(world: World) -> None:
    """Of several blocks, no class of two images loses both to validation."""
    images = Dataset(numbered(1000).images, np.array([*np.arange(200).repeat(2), *[0] * 600], np.uint8))
    train = world.read(world.prepare(images, empty(SHAPE), seed=1))
    labels = np.concatenate([train.load(number).labels for number in range(len(train.blocks))])
    assert set(labels.tolist()) == set(range(200))


def test_a_class_of_copies_is_trained_on(world: World) -> None:
    """A class whose images are all copies of one picture does not lose them all to validation, with several blocks."""
    different = numbered(1000)
    images = Dataset(
        different.images[[*np.arange(40).repeat(20), *range(40, 240)]],
        np.array([*np.arange(40).repeat(20), *[40] * 200], np.uint8),
    )
    prepared = world.prepare(images, empty(SHAPE), seed=1)
    train = world.read(prepared)
    trained = join(*map(train.load, range(len(train.blocks))))
    assert set(trained.labels.tolist()) == set(range(41))
    assert len(prepared.validation)
    assert not {*numbers(trained)} & {*numbers(prepared.validation)}
    world.prepare(images, empty(SHAPE), seed=1)
    assert world.made() == 0


def test_only_changed_blocks_are_prepared_anew(world: World) -> None:
    """A changed image makes two blocks at most be prepared again; all others keep their objects."""
    images = numbered(1000)
    before = world.read(world.prepare(images, empty(SHAPE)))
    assert world.made() == len(before.blocks) == 32
    world.prepare(images, empty(SHAPE))
    assert world.made() == 0
    images.images[300, 5, 5] = 9
    after = world.read(world.prepare(images, empty(SHAPE)))
    assert world.made() in {1, 2}
    assert sum(one != two for one, two in zip(before.blocks, after.blocks, strict=True)) == world.made()


def test_a_block_that_was_lost_is_prepared_anew(world: World) -> None:
    """If a reader finds a damaged block, the next run makes all damaged ones again."""
    prepared = world.prepare(numbered(1000), empty(SHAPE))
    for name in [name for name in world.store.keys("blocks/") if name.endswith("train.npz")][:5]:
        world.store.put(name, b"damaged")
    with pytest.raises(DataError, match="was damaged"):
        [world.read(prepared).load(number) for number in range(len(world.read(prepared).blocks))]
    assert world.prepare(numbered(1000), empty(SHAPE)).train == prepared.train
    assert world.made() == 5
    assert len(world.read(prepared).load(3))


def test_damaged_validation_parts_are_prepared_anew(world: World) -> None:
    """Validation images that are damaged in the store do not fail a run."""
    prepared = world.prepare(numbered(1000), empty(SHAPE))
    for name in [name for name in world.store.keys("blocks/") if name.endswith("validation.npz")][:2]:
        world.store.put(name, b"damaged")
    again = world.prepare(numbered(1000), empty(SHAPE))
    assert (again.validation.digest(), world.made()) == (prepared.validation.digest(), 2)


def test_corrections_are_in_all_blocks(world: World) -> None:
    """Corrections are repeated and divided among the blocks, so that no batch has all of them."""
    corrected = Dataset(np.full((40, *SHAPE), 255, np.uint8), np.zeros(40, np.uint8))
    prepared = world.prepare(numbered(1000), corrected)
    train = world.read(prepared)
    added = [int((train.load(number).images[:, 0, 0] == 255).sum()) for number in range(len(train.blocks))]
    assert (sum(added), prepared.feedback_used) == (40, 40)
    assert Counter(added).keys() == {1, 2}
    assert not (prepared.validation.images[:, 0, 0] == 255).any()


def test_many_small_classes_are_validated(world: World) -> None:
    """A set of several blocks in which each class has twenty images has validation images."""
    images = Dataset(numbered(1000).images, (np.arange(1000) // 20).astype(np.uint8))
    prepared = world.prepare(images, empty(SHAPE))
    assert len(world.read(prepared).blocks) > 1
    assert len(prepared.validation) > 50


@pytest.mark.parametrize("count", [60, 1000])
def test_validation_images_are_kept_if_all_are_corrected(world: World, count: int) -> None:
    """A training needs validation images, also if each was confirmed on the page."""
    images = numbered(count)
    held = world.prepare(images, empty(SHAPE)).validation
    prepared = world.prepare(images, held)
    assert prepared.feedback_used
    assert numbers(prepared.validation) == numbers(held)


@pytest.mark.parametrize("count", [60, 1000])
def test_no_correction_is_a_test_or_a_validation_image(world: World, count: int) -> None:
    """A correction of a test image is not trained on, and the copy of a correction does not validate."""
    images, test = numbered(count), numbered(2000)[np.arange(1500, 1520)]
    held = world.prepare(images, empty(SHAPE)).validation[:2]
    prepared = world.prepare(images, join(test[:3], held), test=test)
    train = world.read(prepared)
    trained = {number for place in range(len(train.blocks)) for number in numbers(train.load(place))}
    assert prepared.feedback_used == 2
    assert trained >= set(numbers(held))
    assert not trained & {*numbers(test), *numbers(prepared.validation)}
    texts = [json.loads(line)["text"] for line in (world.folder / "events").read_text().splitlines()]
    assert "left out: 3 corrections that are equal to test images" in texts


def test_the_validation_set_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many blocks there are, the validation set has no more images than its limit."""
    monkeypatch.setattr(preparation, "MAX_VALIDATION", 32)
    assert 20 < len(world.prepare(numbered(1000), empty(SHAPE)).validation) <= 32

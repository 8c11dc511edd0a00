"""Data sets in blocks, compared with the same data set as one array."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from digits.data import block_index, blocks
from digits.data.dataset import Dataset, join
from digits.errors import DataError


def random_set(count: int, shape: tuple[int, ...] = (9, 12)) -> Dataset:
    rng = np.random.default_rng(count)
    return Dataset(rng.integers(0, 256, (count, *shape), np.uint8), rng.integers(0, 10, count).astype(np.uint8))


@pytest.fixture(params=[(9, 12), (8, 8, 3)], ids=["grey", "colour"])
def images(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Return 1,000 images, of which a block has 64."""
    dataset = random_set(1000, request.param)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 64 * dataset.images[0].size)
    return dataset


def whole(stored: blocks.Blocks) -> Dataset:
    return join(*map(stored.load, range(len(stored.blocks))))


def members(dataset: Dataset) -> Counter[tuple[bytes, int]]:
    return Counter((image.tobytes(), int(label)) for image, label in zip(dataset.images, dataset.labels, strict=True))


def test_what_is_written_is_read(images: Dataset, tmp_path: Path) -> None:
    """A data set that is written in blocks has the same images and labels when it is read, and its own digest."""
    parts = list(blocks.cut(images))
    digest = blocks.write(tmp_path / "set", parts)
    stored = blocks.read(tmp_path / "set", digest)
    assert [block.count for block in stored.blocks] == [len(part) for part in parts]
    assert members(whole(stored)) == members(images)
    for number, part in enumerate(parts):
        assert stored.load(number).digest() == stored.blocks[number].digest == part.digest()
        assert blocks.read_labels(tmp_path / "set", number).tolist() == part.labels.tolist()
    assert blocks.write(tmp_path / "set", blocks.cut(images[:999])) != digest


def test_a_data_set_of_one_block_keeps_its_order(images: Dataset) -> None:
    """A data set that fits a block is one, with its images in their order, also if there are none."""
    assert [part.digest() for part in blocks.cut(images[:64])] == [images[:64].digest()]
    assert [len(part) for part in blocks.cut(images[:0])] == [0]


def test_a_block_is_a_random_sample_of_about_the_stated_size(images: Dataset) -> None:
    """Images sorted by class are divided among blocks that have all classes and hardly exceed the size."""
    parts = list(blocks.cut(images[np.argsort(images.labels)]))
    assert len(parts) == 32
    assert all(10 < len(part) < 64 for part in parts)
    assert sum(len(set(part.labels.tolist())) >= 8 for part in parts) >= 30


def test_the_order_of_the_images_does_not_change_a_block(images: Dataset) -> None:
    """Blocks are the same whatever the order of the images, some of which occur several times."""
    repeated = join(images, images[:100], images[:50])
    mixed = repeated[np.random.default_rng(0).permutation(len(repeated))]
    assert [part.digest() for part in blocks.cut(mixed)] == [part.digest() for part in blocks.cut(repeated)]


def test_a_changed_image_changes_two_blocks_at_most(images: Dataset) -> None:
    """If one image changes, is added or is removed, the other blocks keep their digests."""
    before = [part.digest() for part in blocks.cut(images)]
    changed = Dataset(images.images.copy(), images.labels)
    changed.images[500] ^= 255
    for other, limit in ((changed, 2), (images[:999], 1), (join(images, random_set(1, images.images.shape[1:])), 1)):
        after = [part.digest() for part in blocks.cut(other)]
        assert len(after) == len(before)
        assert 1 <= sum(one != two for one, two in zip(before, after, strict=True)) <= limit


def test_equal_images_are_divided_evenly(images: Dataset) -> None:
    """A thousand equal images do not end in one block."""
    equal = images[np.zeros(1000, int)]
    assert {len(part) for part in blocks.cut(equal)} <= {31, 32}


def test_a_block_of_the_store_is_loaded_by_its_key(images: Dataset, tmp_path: Path) -> None:
    """The blocks of an index with keys are loaded by the given function, with key and digest."""
    known = (block_index.Block(64, "a"), block_index.Block(30, "b"))
    index = block_index.Index((9, 12), known, ("first", "second"))
    index.write(tmp_path)
    asked: list[tuple[str, str]] = []

    def load(key: str, digest: str) -> Dataset:
        asked.append((key, digest))
        return images[:30]

    stored = blocks.read(tmp_path, index.digest(), load)
    assert (len(stored), stored.largest, len(stored.load(1)), asked) == (94, 64, 30, [("second", "b")])
    assert index.digest() == block_index.Index((9, 12), known).digest()


@pytest.mark.parametrize("damage", ["missing", "cut", "other", "swapped"])
def test_a_damaged_block_is_named_when_it_is_loaded(images: Dataset, tmp_path: Path, damage: str) -> None:
    """Each block is verified, and the error has the file's path and a remedy; the other blocks can be loaded."""
    digest = blocks.write(tmp_path, parts := list(blocks.cut(images)))
    block, other = tmp_path / "0001.npz", tmp_path / "0002.npz"
    if damage == "missing":
        block.unlink()
    elif damage == "cut":
        block.write_bytes(block.read_bytes()[:-200])
    elif damage == "other":
        images[:64].save(block)
    else:
        other.replace(block)
    stored = blocks.read(tmp_path, digest)
    assert stored.load(0).digest() == parts[0].digest()
    with pytest.raises(DataError, match=r"0001\.npz") as error:
        stored.load(1)
    assert "--no-cache" in str(error.value)


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"shape": [9, 12]}', '{"shape": 3, "blocks": [{}]}', "changed", "missing", "one key"],
)
def test_a_damaged_index_is_refused(images: Dataset, tmp_path: Path, content: str) -> None:
    """An index that is missing, damaged, or not the one that was written is refused before a block is read."""
    digest = blocks.write(tmp_path, blocks.cut(images))
    index = tmp_path / block_index.NAME
    if content == "changed":
        changed = json.loads(index.read_text())
        changed["blocks"][3]["count"] += 1
        index.write_text(json.dumps(changed))
    elif content == "one key":
        index.write_text(json.dumps(json.loads(index.read_text()) | {"stored": ["a"]}))
    elif content == "missing":
        index.unlink()
    else:
        index.write_text(content)
    with pytest.raises(DataError, match="data set"):
        blocks.read(tmp_path, digest)

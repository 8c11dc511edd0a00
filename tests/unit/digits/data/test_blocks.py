"""Data sets in blocks, compared with the same data set as one array."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from digits.data import blocks
from digits.data.dataset import Dataset, empty
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
    return stored.take(np.arange(len(stored)))


def test_what_is_written_is_read(images: Dataset, tmp_path: Path) -> None:
    """A data set that is written in blocks has the same images and labels when it is read, and its own digest."""
    digest = blocks.write(tmp_path / "set", blocks.cut(images))
    stored = blocks.read(tmp_path / "set", digest)
    assert stored.counts == (*[64] * 15, 40)
    assert whole(stored).digest() == images.digest()
    assert blocks.read_labels(tmp_path / "set", 16).tolist() == images.labels.tolist()
    assert blocks.write(tmp_path / "set", blocks.cut(images[:999])) != digest
    assert len(blocks.read(tmp_path / "set", blocks.write(tmp_path / "set", blocks.cut(images[:64]))).counts) == 1


@pytest.mark.parametrize("count", [3, 64, 500, 1000])
def test_any_order_can_be_written(images: Dataset, tmp_path: Path, count: int) -> None:
    """Chosen images, some of them several times, are written in their order, whether they need one block or many."""
    source = blocks.read(tmp_path / "a", blocks.write(tmp_path / "a", blocks.cut(images)))
    more = random_set(5, images.images.shape[1:])
    chosen = np.random.default_rng(1).integers(0, 1005, count)
    expected = Dataset(np.concatenate([images.images, more.images]), np.concatenate([images.labels, more.labels]))[
        chosen
    ]
    stored = blocks.read(tmp_path / "b", source.followed_by(more).arrange(chosen, tmp_path / "b"))
    assert whole(stored).digest() == source.followed_by(more).take(chosen).digest() == expected.digest()
    assert len(stored.counts) == -(-count // 64)
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}  # no temporary files
    one = blocks.in_memory(images).followed_by(more)
    assert one.arrange(chosen, tmp_path / "c") == blocks.write(tmp_path / "b", blocks.cut(expected))


def test_a_data_set_may_be_empty(tmp_path: Path) -> None:
    """A data set without images can be written, read, and followed by another one."""
    stored = blocks.read(tmp_path / "set", blocks.write(tmp_path / "set", blocks.cut(empty((9, 12)))))
    assert len(stored) == len(blocks.read_labels(tmp_path / "set", 1)) == 0
    assert whole(stored.followed_by(random_set(5))).digest() == random_set(5).digest()


@pytest.mark.parametrize("damage", ["missing", "cut", "other", "swapped"])
def test_a_damaged_block_is_named_when_it_is_loaded(images: Dataset, tmp_path: Path, damage: str) -> None:
    """Each block is verified, and the error has the file's path and a remedy; the other blocks can be loaded."""
    digest = blocks.write(tmp_path, blocks.cut(images))
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
    assert stored.load(0).digest() == images[:64].digest()
    with pytest.raises(DataError, match=r"0001\.npz") as error:
        stored.load(1)
    assert "--no-cache" in str(error.value)


@pytest.mark.parametrize(
    "content", ["", "[]", '{"shape": [9, 12]}', '{"shape": 3, "blocks": [{}]}', "changed", "missing"]
)
def test_a_damaged_index_is_refused(images: Dataset, tmp_path: Path, content: str) -> None:
    """An index that is missing, damaged, or not the one that was written is refused before a block is read."""
    digest = blocks.write(tmp_path, blocks.cut(images))
    index = tmp_path / blocks.INDEX
    if content == "changed":
        changed = json.loads(index.read_text())
        changed["blocks"][3]["count"] += 1
        index.write_text(json.dumps(changed))
    elif content == "missing":
        index.unlink()
    else:
        index.write_text(content)
    with pytest.raises(DataError, match="data set"):
        blocks.read(tmp_path, digest)

"""Prepared blocks in the object store."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from digits.data.dataset import Dataset
from digits.data.stored_blocks import MAX_AGE, StoredBlocks
from digits.errors import DataError
from digits.settings import Settings
from digits.store import open_store
from digits.store.file import FileStore


def images(count: int) -> Dataset:
    return Dataset(np.full((count, 9, 12), count, np.uint8), np.arange(count).astype(np.uint8))


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    opened = open_store(Settings(home=tmp_path))
    assert isinstance(opened, FileStore)
    return opened


@pytest.fixture
def stored(store: FileStore) -> StoredBlocks:
    return StoredBlocks(store)


def test_a_block_is_found_by_its_inputs(stored: StoredBlocks) -> None:
    """Find and load what was added under a key, and nothing under another key."""
    assert stored.find("a") is None
    added = stored.add("a", images(5), images(2))
    assert stored.find("a") == added
    assert stored.find("b") is None
    loaded = [stored.load(name, part.digest) for name, part in zip(stored.objects("a"), added, strict=True)]
    assert [part.digest() for part in loaded] == [images(5).digest(), images(2).digest()]


def test_where_signatures_are_required_none_is_found(tmp_path: Path) -> None:
    """An entry carries no signature, so it does not count where keys are given."""
    keys = tmp_path / "keys"
    keys.mkdir()
    stored = StoredBlocks(open_store(Settings(home=tmp_path, trusted_keys=str(keys))))
    stored.add("a", images(5), images(2))
    assert stored.find("a") is None


@pytest.mark.parametrize("content", [b"", b"[]", b'{"train": {"count": 1}}', b'{"train": 1, "validation": 2}'])
def test_a_damaged_entry_is_none(store: FileStore, stored: StoredBlocks, content: bytes) -> None:
    """An index that cannot be read is as good as none, and a new one replaces it."""
    added = stored.add("a", images(5), images(2))
    store.put("blocks/digits/a/index.json", content)
    assert stored.find("a") is None
    assert stored.add("a", images(5), images(2)) == added == stored.find("a")


@pytest.mark.parametrize("damage", ["changed", "cut", "missing"])
def test_a_damaged_part_is_made_again(store: FileStore, stored: StoredBlocks, damage: str) -> None:
    """A part that is damaged is refused by its name, and then missing, so that the block is not found any more."""
    name, part = stored.objects("a")[0], stored.add("a", images(5), images(2))[0]
    if damage == "changed":
        images(4).save(store.root / name)
    elif damage == "cut":
        store.put(name, store.get(name)[:-100])
    else:
        store.delete(name)
    with pytest.raises(DataError, match=r"blocks/digits/a/train\.npz") as error:
        stored.load(name, part.digest)
    assert "--no-cache" in error.value.remedy
    assert stored.find("a") is None


def test_blocks_that_were_not_used_for_long_are_removed(store: FileStore, stored: StoredBlocks) -> None:
    """Old blocks and incomplete ones are removed, but none that was found again or is another task's."""
    for key in ("old", "used", "new"):
        stored.add(key, images(5), images(2))
    store.put("blocks/digits/broken/train.npz", b"")
    store.put("blocks/other/old/index.json", b"")
    for path in (store.root / "blocks").rglob("*.*"):
        if path.parent.name != "new":
            os.utime(path, (time.time() - MAX_AGE,) * 2)
    stored.find("used")
    stored.remove_old()
    assert {name.split("/", 1)[1].rpartition("/")[0] for name in store.keys("blocks/")} == {
        "digits/used", "digits/new", "other/old",
    }  # fmt: skip
    assert stored.find("used")


def test_a_store_that_fails_does_not_fail_the_removal(store: FileStore, stored: StoredBlocks) -> None:
    """If old blocks cannot be listed or removed, they remain."""
    (store.root).mkdir(parents=True)
    (store.root / "blocks").symlink_to("/nowhere")
    stored.remove_old()

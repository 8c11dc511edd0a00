"""TensorFlow Serving's layout in the store follows the champion."""

from __future__ import annotations

from pathlib import Path

import pytest

from digits.errors import ReleaseError
from digits.release import ledger
from digits.release.serving_layout import serving_prefix, write_serving_layout
from digits.store.file import FileStore
from tests.helpers.small_releases import small_release


def test_the_serving_layout_follows_the_champion(store: FileStore, tmp_path: Path) -> None:
    """The folder holds the newest champions under rising numbers, and no more than two."""
    with pytest.raises(ReleaseError, match="no champion"):
        write_serving_layout(store)
    for seed in range(3):
        ledger.promote(store, small_release(store, tmp_path, seed), "good")
        prefix = write_serving_layout(store)
        assert prefix == f"models/detect-digits/{seed + 1}/"
        assert store.get(prefix + "saved_model.pb") == b"model saved_model/saved_model.pb"
    assert {key.split("/")[2] for key in store.keys(serving_prefix(store))} == {"2", "3"}


def test_a_damaged_copy_is_written_again(store: FileStore, tmp_path: Path) -> None:
    """A copy that is missing or damaged is restored, and one from a ledger that was lost is removed."""
    ledger.promote(store, small_release(store, tmp_path), "good")
    prefix = write_serving_layout(store)
    store.put(f"{serving_prefix(store)}7/saved_model.pb", b"of an earlier ledger")
    before = {key: store.get(key) for key in store.keys(prefix)}
    store.put(f"{prefix}saved_model.pb", b"damaged")
    store.delete(f"{prefix}variables/variables.index")
    write_serving_layout(store)
    assert {key: store.get(key) for key in store.keys(serving_prefix(store))} == before

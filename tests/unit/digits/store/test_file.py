"""A folder as object store, on file systems and with links that do not suit it."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from digits.errors import StoreError
from digits.store.file import FileStore


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK])
def test_a_file_system_without_hard_links_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """If no hard link can be created, as on a bucket mounted as a folder, the error says so and no file is left."""
    store = FileStore(tmp_path)
    monkeypatch.setattr(os, "link", Mock(side_effect=OSError(number, os.strerror(number))))
    with pytest.raises(StoreError, match="expected a file system with hard links") as error:
        store.create("promotions/digits/1.json", b"x")
    assert os.strerror(number) in error.value.message
    assert "s3://" in error.value.remedy
    assert list((tmp_path / "promotions" / "digits").iterdir()) == []


def test_a_link_to_a_place_outside_the_store_is_refused(tmp_path: Path) -> None:
    """An object is neither read from nor written to a folder outside the store."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("x")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "link").symlink_to(tmp_path / "outside")
    store = FileStore(tmp_path / "store")
    with pytest.raises(StoreError, match="is a link to a place outside the store"):
        store.get("link/file")
    with pytest.raises(StoreError, match="is a link to a place outside the store"):
        store.put("link/other", b"x")
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["file"]


@pytest.mark.parametrize("min_age", [None, 0.0])
def test_what_is_removed_during_a_listing_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, min_age: float | None
) -> None:
    """A file or folder that another program removes while the keys are listed is no key and no error."""
    store = FileStore(tmp_path)
    for key in ("a", "b/c", "d/e", "z"):
        store.put(key, b"x")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    original = Path.stat

    def stat(path: Path, **options: Any) -> os.stat_result:
        if path.parent == tmp_path:  # one of the two files there
            (tmp_path / "a").unlink(missing_ok=True)
            shutil.rmtree(tmp_path / "b", ignore_errors=True)
        return original(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    assert store.keys(min_age=min_age) == ["d/e", "z"]


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of the store that this user may not read is no empty one: its releases and ledger are not missing."""
    monkeypatch.setattr(os, "scandir", Mock(side_effect=PermissionError(errno.EACCES, "Permission denied", "x")))
    with pytest.raises(StoreError, match="Permission denied"):
        FileStore(tmp_path).keys("promotions/")


def test_a_file_is_no_empty_store(tmp_path: Path) -> None:
    """A store that is a file is an error, because its releases are not missing; a link to no folder yet makes one."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "removed")
    with pytest.raises(StoreError, match="file is not a folder"):
        FileStore(tmp_path / "file")
    FileStore(tmp_path / "link").put("a", b"x")
    assert (tmp_path / "removed" / "a").read_bytes() == b"x"


@pytest.mark.parametrize("kind", ["file", "link to nothing", "link to itself"])
def test_what_is_in_the_place_of_a_folder_is_no_empty_folder(tmp_path: Path, kind: str) -> None:
    """A ledger whose folder is a file or a lost link is damaged, and not one without a champion."""
    place, store = tmp_path / "promotions", FileStore(tmp_path)
    assert store.keys("promotions/digits/") == []
    if kind == "file":
        place.touch()
    else:
        place.symlink_to(tmp_path / "removed" if kind == "link to nothing" else place)
    for prefix in ("promotions/", "promotions/digits/"):
        with pytest.raises(StoreError, match="promotions is not a folder"):
            store.keys(prefix)


def test_an_error_of_the_file_system_is_a_store_error(tmp_path: Path) -> None:
    """Each method reports an operating-system error, such as a name that is too long, as StoreError."""
    store, key = FileStore(tmp_path), "a" * 300
    for call in (store.exists, store.get, store.delete):
        with pytest.raises(StoreError, match=os.strerror(errno.ENAMETOOLONG)):
            call(key)

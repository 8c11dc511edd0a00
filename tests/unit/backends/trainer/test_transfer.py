"""Folders in the object store."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.trainer.transfer import get_folder, put_folder
from digits.errors import DigestMismatch, ObjectMissing, StoreError
from digits.files import canonical_json, sha256_of
from digits.settings import Settings
from digits.store import ObjectStore, open_store


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(Settings(home=tmp_path / "home"))


def test_a_folder_arrives_whole(store: ObjectStore, tmp_path: Path) -> None:
    """Files in sub-folders and behind links arrive as files."""
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards/0.npz").write_bytes(b"images")
    (tmp_path / "job").mkdir()
    (tmp_path / "job/job.json").write_text("{}")
    (tmp_path / "job/train_set").symlink_to(tmp_path / "shards")
    digest = put_folder(store, "trainings/digits/k/job", tmp_path / "job")
    get_folder(store, "trainings/digits/k/job", digest, tmp_path / "copy")
    assert (tmp_path / "copy/job.json").read_text() == "{}"
    assert (tmp_path / "copy/train_set/0.npz").read_bytes() == b"images"
    assert not (tmp_path / "copy/train_set").is_symlink()


def test_an_incomplete_folder_is_missing(store: ObjectStore, tmp_path: Path) -> None:
    """A folder whose upload was cut off is not read, because the list of its files is written last."""
    store.put("a/job/job.json", b"{}")
    with pytest.raises(ObjectMissing):
        get_folder(store, "a/job", "0" * 64, tmp_path)


@pytest.mark.parametrize("changed", ["a/job/job.json", "a/job.json"])
def test_a_changed_file_is_refused(store: ObjectStore, tmp_path: Path, changed: str) -> None:
    """Neither a file nor the list of files may change in the store."""
    (tmp_path / "job").mkdir()
    (tmp_path / "job/job.json").write_text("{}")
    digest = put_folder(store, "a/job", tmp_path / "job")
    store.put(changed, b"[]")
    with pytest.raises(DigestMismatch):
        get_folder(store, "a/job", digest, tmp_path / "copy")


@pytest.mark.parametrize("name", ["../../escaped", "/escaped"])
def test_no_file_leaves_the_folder(store: ObjectStore, tmp_path: Path, name: str) -> None:
    """A name in the list that leads out of the folder is refused."""
    files = canonical_json({name: "0" * 64})
    store.put("a/job.json", files)
    with pytest.raises(StoreError):
        get_folder(store, "a/job", sha256_of(files), tmp_path / "copy")

"""A release is written once, whole, and never mixed with the files of another writer."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from digits.errors import ObjectMissing, ReleaseError
from digits.files import sha256_of
from digits.release import ledger, releases, write
from digits.release.write import copy_release, write_release
from digits.store.file import FileStore
from tests.helpers.small_releases import manifest as manifest_for
from tests.helpers.small_releases import release_folder, small_release


def test_writing_a_release_twice_changes_nothing(store: FileStore, tmp_path: Path) -> None:
    """The second call returns the manifest of the first and changes no object."""
    first = write_release(store, release_folder(tmp_path / "a"), manifest_for(0))
    before = {key: store.get(key) for key in store.keys("")}
    second = write_release(store, release_folder(tmp_path / "b", "other bytes"), manifest_for(0))
    assert first == second
    assert {key: store.get(key) for key in store.keys("")} == before


def test_concurrent_writers_make_one_intact_release(store: FileStore, tmp_path: Path) -> None:
    """Equal models whose files differ in time stamps never mix into a release that its digests refuse."""
    for turn in range(10):
        barrier = threading.Barrier(4)

        def one(number: int, turn: int = turn, barrier: threading.Barrier = barrier) -> releases.Manifest:
            folder = release_folder(tmp_path / f"{turn}-{number}", f"written by {number}")
            barrier.wait(10)
            return write_release(store, folder, manifest_for(turn))

        with ThreadPoolExecutor(4) as pool:
            manifests = list(pool.map(one, range(4)))
        assert all(manifest == manifests[0] for manifest in manifests)
        releases.download(store, manifests[0]["version"], tmp_path / f"got-{turn}")


def test_a_writer_that_is_overtaken_keeps_the_release_of_the_other(tmp_path: Path) -> None:
    """A release that another writer completes after this one found none is returned, and none of its files replaced."""
    stores, others = FileStore(tmp_path / "store"), []

    class Overtaken(FileStore):
        """A store in which the other writer completes the release as soon as its manifest was found missing."""

        def get(self, key: str, **options: Any) -> bytes:
            try:
                return super().get(key, **options)
            except ObjectMissing:
                if not others:
                    others.append(write_release(stores, release_folder(tmp_path / "b", "theirs"), manifest_for(0)))
                raise

    assert write_release(Overtaken(tmp_path / "store"), release_folder(tmp_path / "a"), manifest_for(0)) == others[0]
    assert releases.load_whole(stores, others[0]["version"]) == others[0]


@pytest.mark.parametrize("name", ["model.keras", "model.onnx", "saved_model/saved_model.pb"])
def test_a_foreign_file_never_gets_into_a_manifest(
    name: str, store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A different file in the store is refused with both digests; once it is deleted, the release can be written."""
    monkeypatch.setattr(write, "OTHER_WRITER_SECONDS", 0)
    folder, manifest = release_folder(tmp_path / "a"), manifest_for(0)
    prefix = releases.release_prefix(store, manifest["version"])
    store.put(prefix + name, b"foreign")
    ours, theirs = sha256_of(folder / name), sha256_of(b"foreign")
    with pytest.raises(ReleaseError, match=rf"{prefix}{name}: expected SHA-256 {ours}, found {theirs}") as refused:
        write_release(store, folder, manifest)
    assert prefix in refused.value.remedy
    assert not store.exists(prefix + releases.MANIFEST)
    for key in store.keys(prefix):
        store.delete(key)
    assert write_release(store, folder, manifest)["files"][name] == ours
    releases.download(store, manifest["version"], tmp_path / "got")


def test_files_without_a_manifest_are_no_release(store: FileStore, tmp_path: Path) -> None:
    """Files without a manifest are not listed, loaded or promoted; writing the release again completes them."""
    version = small_release(store, tmp_path)
    store.delete(releases.release_prefix(store, version) + releases.MANIFEST)
    assert releases.list_releases(store)[0] == []
    for request in (
        lambda: releases.load(store, version),
        lambda: ledger.promote(store, version, "why"),
        lambda: releases.download(store, version, tmp_path / "got"),
    ):
        with pytest.raises(ReleaseError, match=f"no release '{version}'"):
            request()
    assert ledger.champion(store) == ""
    write_release(store, release_folder(tmp_path / "again"), manifest_for(0))
    releases.download(store, version, tmp_path / "got")


def test_a_release_is_copied_unchanged(store: FileStore, tmp_path: Path) -> None:
    """All objects are the same in the other store; a second copy changes nothing; a damaged file is refused."""
    other = FileStore(tmp_path / "other")
    version = small_release(store, tmp_path)
    assert copy_release(store, other, version) == releases.load(store, version)
    assert {key: other.get(key) for key in other.keys()} == {  # noqa: SIM118 # not a dict
        key: store.get(key) for key in store.keys(releases.release_prefix(store, version))
    }
    store.put(f"{releases.release_prefix(store, version)}model.onnx", b"something else")
    assert copy_release(store, other, version) == releases.load(store, version)
    third = FileStore(tmp_path / "third")
    with pytest.raises(ReleaseError, match="SHA-256"):
        copy_release(store, third, version)
    assert not third.exists(f"{releases.release_prefix(third, version)}{releases.MANIFEST}")
    with pytest.raises(ReleaseError, match="no release"):
        copy_release(store, third, "nothing")


@pytest.mark.parametrize("name", ["model.keras", "saved_model/saved_model.pb"])
def test_a_copy_writes_no_manifest_over_foreign_files(
    name: str, store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The remains of an interrupted copy from another store are refused; once they are deleted, the copy succeeds."""
    monkeypatch.setattr(write, "OTHER_WRITER_SECONDS", 0)
    target = FileStore(tmp_path / "target")
    version = small_release(store, tmp_path)
    prefix, ours, theirs = (
        releases.release_prefix(store, version),
        sha256_of(f"model {name}".encode()),
        sha256_of(b"theirs"),
    )
    target.put(prefix + name, b"theirs")
    with pytest.raises(ReleaseError, match=rf"{prefix}{name}: expected SHA-256 {ours}, found {theirs}") as refused:
        copy_release(store, target, version)
    assert f"{target.uri}/{prefix}" in refused.value.remedy
    assert not target.exists(prefix + releases.MANIFEST)
    target.delete(prefix + name)
    copy_release(store, target, version)
    releases.download(target, version, tmp_path / "got")


def test_an_interrupted_copy_can_be_repeated(store: FileStore, tmp_path: Path) -> None:
    """The release's own files from an earlier copy are accepted."""
    target = FileStore(tmp_path / "target")
    version = small_release(store, tmp_path)
    key = f"{releases.release_prefix(store, version)}model.onnx"
    target.put(key, store.get(key))
    copy_release(store, target, version)
    releases.download(target, version, tmp_path / "got")


@pytest.mark.parametrize("damage", ["changed", "deleted", "manifest cut", "manifest deleted"])
def test_a_damaged_release_is_restored(damage: str, store: FileStore, tmp_path: Path) -> None:
    """A release whose files are at hand is as before after it is written again, and so is a copy of it."""
    target, folder = FileStore(tmp_path / "target"), release_folder(tmp_path / "a")
    logged = write_release(store, folder, manifest_for(0))
    version = logged["version"]
    prefix = releases.release_prefix(store, version)
    copy_release(store, target, version)
    before = {key: store.get(key) for key in store.keys()}  # noqa: SIM118 # not a dict
    key = prefix + (releases.MANIFEST if damage.startswith("manifest") else "model.keras")
    for damaged, write_again in (
        (store, lambda: write_release(store, folder, manifest_for(0), logged)),
        (target, lambda: copy_release(store, target, version)),
    ):
        damaged.delete(key) if damage.endswith("deleted") else damaged.put(key, b"{")
        assert write_again() == logged
        assert {name: damaged.get(name) for name in damaged.keys()} == before  # noqa: SIM118 # not a dict


def test_a_damaged_release_is_replaced_by_other_files_with_the_same_weights(store: FileStore, tmp_path: Path) -> None:
    """If its own files are lost, the files at hand and their digests replace the whole release."""
    version = small_release(store, tmp_path)
    store.put(f"{releases.release_prefix(store, version)}model.keras", b"damaged")
    made = write_release(store, release_folder(tmp_path / "b", "other bytes"), manifest_for(0))
    assert releases.load_whole(store, version) == made
    assert made["files"]["model.keras"] == sha256_of(b"other bytes model.keras")

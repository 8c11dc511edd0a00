"""Releases are immutable and complete; the ledger loses no promotion and shows tampering."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from digits.errors import ReleaseError, StoreError
from digits.files import sha256_of
from digits.release import ledger, releases
from digits.store.file import FileStore
from tests.helpers.support import Finished, another_release

DATA = {"dataset": "mnist", "source": "s", "train": "t"}


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """An empty store."""
    return FileStore(tmp_path / "store")


def folder_of(path: Path, text: str = "model") -> Path:
    """A release's files; what is in them does not matter here."""
    (path / "saved_model" / "variables").mkdir(parents=True)
    for name in ("model.onnx", "model.keras", "saved_model/saved_model.pb", "saved_model/variables/variables.index"):
        (path / name).write_text(f"{text} {name}")
    return path


def manifest_of(seed: int) -> dict[str, Any]:
    """A manifest without its files."""
    parts: dict[str, Any] = {"weights": "w", "data": DATA, "code": "c", "parameters": {"seed": seed}}
    digest = releases.identity(**parts)
    return parts | {"digest": digest, "version": releases.version_from_digest(digest), "metrics": {"accuracy": 0.99}}


def publish(store: FileStore, folder: Path, seed: int = 0) -> str:
    """Publish a small release; returns its version."""
    return str(releases.publish(store, folder_of(folder / str(seed)), manifest_of(seed))["version"])


def test_publishing_twice_is_publishing_once(store: FileStore, tmp_path: Path) -> None:
    """The second publication gives the first one's manifest and changes no object."""
    first = releases.publish(store, folder_of(tmp_path / "a"), manifest_of(0))
    before = {key: store.get(key) for key in store.keys("")}
    second = releases.publish(store, folder_of(tmp_path / "b", "other bytes"), manifest_of(0))
    assert first == second
    assert {key: store.get(key) for key in store.keys("")} == before


def test_two_publishing_at_once_make_one_intact_release(store: FileStore, tmp_path: Path) -> None:
    """Equal models whose files differ in time stamps never mix into a release that its digests refuse."""
    for turn in range(10):
        barrier = threading.Barrier(4)

        def one(number: int, turn: int = turn, barrier: threading.Barrier = barrier) -> releases.Manifest:
            folder = folder_of(tmp_path / f"{turn}-{number}", f"written by {number}")
            barrier.wait(10)
            return releases.publish(store, folder, manifest_of(turn))

        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(one, range(4)))
        assert all(manifest == made[0] for manifest in made)
        releases.download(store, made[0]["version"], tmp_path / f"got-{turn}")


@pytest.mark.parametrize("name", ["model.keras", "model.onnx", "saved_model/saved_model.pb"])
def test_what_is_not_the_releases_never_gets_into_a_manifest(
    name: str, store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another content in a file's place is refused with both digests, and once it is removed publishing goes on."""
    monkeypatch.setattr(releases, "OTHERS_SECONDS", 0)
    folder, manifest = folder_of(tmp_path / "a"), manifest_of(0)
    prefix = releases.release_prefix(manifest["version"])
    store.put(prefix + name, b"garbage")
    ours, theirs = sha256_of(folder / name), sha256_of(b"garbage")
    with pytest.raises(ReleaseError, match=rf"{prefix}{name}: expected SHA-256 {ours}, found {theirs}") as refused:
        releases.publish(store, folder, manifest)
    assert prefix in refused.value.remedy
    assert not store.exists(prefix + releases.MANIFEST)
    for key in store.keys(prefix):
        store.delete(key)
    assert releases.publish(store, folder, manifest)["files"][name] == ours
    releases.download(store, manifest["version"], tmp_path / "got")


def test_no_manifest_no_release(store: FileStore, tmp_path: Path) -> None:
    """Files without a manifest are not listed, not loaded and not promoted, and publishing again completes them."""
    version = publish(store, tmp_path)
    store.delete(releases.release_prefix(version) + releases.MANIFEST)
    assert releases.versions(store) == []
    for refused in (
        lambda: releases.load(store, version),
        lambda: ledger.promote(store, version, "why"),
        lambda: releases.download(store, version, tmp_path / "got"),
    ):
        with pytest.raises(ReleaseError, match=f"no release '{version}'"):
            refused()
    assert ledger.champion(store) == ""
    releases.publish(store, folder_of(tmp_path / "again"), manifest_of(0))
    releases.download(store, version, tmp_path / "got")


def test_the_version_names_the_content() -> None:
    """The same content has the same version, whatever the order of keys; each part counts."""
    parts: dict[str, Any] = {"weights": "w", "data": DATA, "code": "c", "parameters": {"a": 1, "b": 2}}
    digest = releases.identity(**parts)
    assert digest == releases.identity(**parts | {"parameters": {"b": 2, "a": 1}})
    for change in ({"weights": "x"}, {"data": DATA | {"train": "u"}}, {"code": "d"}, {"parameters": {"a": 1, "b": 3}}):
        assert releases.identity(**parts | change) != digest
    assert len(releases.version_from_digest(digest)) == 12


@pytest.mark.parametrize("damage", ["cut", "other version", "no files", "a list"])
def test_a_damaged_manifest_is_refused(damage: str, store: FileStore, tmp_path: Path) -> None:
    """What is no manifest of this version is a ReleaseError that says so."""
    version = publish(store, tmp_path)
    key = releases.release_prefix(version) + releases.MANIFEST
    manifest = json.loads(store.get(key))
    changed = {
        "cut": json.dumps(manifest)[:-20],
        "other version": json.dumps(manifest | {"version": "0" * 12}),
        "no files": json.dumps({k: v for k, v in manifest.items() if k != "files"}),
        "a list": "[]",
    }[damage]
    store.put(key, changed.encode())
    with pytest.raises(ReleaseError, match=f"manifest of release {version} is damaged"):
        releases.load(store, version)


def test_a_changed_file_is_found(store: FileStore, tmp_path: Path) -> None:
    """One changed byte refuses the download, names the file, and leaves no such file behind."""
    version = publish(store, tmp_path)
    releases.download(store, version, tmp_path / "good")
    store.put(releases.release_prefix(version) + "model.onnx", b"tampered")
    with pytest.raises(ReleaseError, match=r"model\.onnx is damaged: expected SHA-256"):
        releases.download(store, version, tmp_path / "bad")
    assert not (tmp_path / "bad" / "model.onnx").exists()
    store.delete(releases.release_prefix(version) + "model.onnx")
    with pytest.raises(ReleaseError, match=r"model\.onnx"):
        releases.download(store, version, tmp_path / "bad")


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "saved_model/../../outside", "a\\..\\b"])
def test_a_manifest_cannot_write_elsewhere(name: str, store: FileStore, tmp_path: Path) -> None:
    """A path that leads out of the release is refused, in a store and in a folder."""
    version = publish(store, tmp_path)
    key = releases.release_prefix(version) + releases.MANIFEST
    manifest = json.loads(store.get(key))
    manifest["files"][name] = manifest["files"]["model.onnx"]
    store.put(key, json.dumps(manifest).encode())
    with pytest.raises((ReleaseError, StoreError)):
        releases.download(store, version, tmp_path / "x" / "got")
    assert not list(tmp_path.rglob("*outside*"))
    folder = folder_of(tmp_path / "folder")
    (folder / releases.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ReleaseError, match="outside its release"):
        releases.check_folder(folder)


@pytest.mark.parametrize("name", ["a\0b", "x" * 300])
def test_odd_names_in_a_manifest_are_refused(name: str, store: FileStore, tmp_path: Path) -> None:
    """A name that no file can have is our error, not the system's."""
    folder = folder_of(tmp_path / "folder")
    manifest = releases.download(store, publish(store, tmp_path), folder)
    manifest["files"][name] = manifest["files"]["model.onnx"]
    (folder / releases.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ReleaseError, match="cannot be read"):
        releases.check_folder(folder)


def test_a_folder_behind_a_link_is_fine_and_one_within_is_not(store: FileStore, tmp_path: Path) -> None:
    """The release may be mounted anywhere, but what is in it must be in it."""
    manifest = releases.download(store, publish(store, tmp_path), tmp_path / "got")
    (tmp_path / "mounted").symlink_to(tmp_path / "got")
    assert releases.check_folder(tmp_path / "mounted") == manifest
    (tmp_path / "got" / "saved_model").rename(tmp_path / "elsewhere")
    (tmp_path / "got" / "saved_model").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ReleaseError, match="is a link, or in one"):
        releases.check_folder(tmp_path / "got")


@pytest.mark.parametrize("damage", ["none", "no manifest", "changed", "missing model", "link", "not JSON"])
def test_a_folder_is_checked(damage: str, store: FileStore, tmp_path: Path) -> None:
    """A release in a folder is accepted when intact and refused with the reason otherwise."""
    folder = tmp_path / "got"
    manifest = releases.download(store, publish(store, tmp_path), folder)
    if damage == "none":
        assert releases.check_folder(folder) == manifest
        (folder / "model.keras").unlink()  # a server needs the ONNX model alone
        assert releases.check_folder(folder) == manifest
        return
    if damage == "no manifest":
        (folder / releases.MANIFEST).unlink()
    elif damage == "changed":
        (folder / "model.onnx").write_text("tampered")
    elif damage == "missing model":
        (folder / "model.onnx").unlink()
    elif damage == "link":
        (folder / "model.onnx").rename(tmp_path / "elsewhere")
        (folder / "model.onnx").symlink_to(tmp_path / "elsewhere")
    else:
        (folder / releases.MANIFEST).write_text("{")
    expected = {
        "no manifest": "holds no manifest.json",
        "changed": "is damaged: expected SHA-256",
        "missing model": "is missing",
        "link": "is a link",
        "not JSON": "manifest in .* is damaged",
    }[damage]
    with pytest.raises(ReleaseError, match=expected):
        releases.check_folder(folder)


def test_the_ledger_is_a_chain(store: FileStore, tmp_path: Path) -> None:
    """Each entry holds the digest of the one before, and promoting the champion again adds none."""
    versions = [publish(store, tmp_path, seed) for seed in range(3)]
    for version in [*versions, versions[-1]]:
        ledger.promote(store, version, f"because of {version}")
    entries = ledger.entries(store)
    assert [entry.version for entry in entries] == versions
    assert [entry.n for entry in entries] == [1, 2, 3]
    assert [entry.previous for entry in entries] == ["", *versions[:2]]
    assert (ledger.champion(store), ledger.previous(store)) == (versions[2], versions[1])


@pytest.mark.parametrize("how", ["changed", "removed", "replaced", "not JSON"])
def test_tampering_with_the_ledger_is_found(how: str, store: FileStore, tmp_path: Path) -> None:
    """A changed, removed or replaced entry breaks the chain at the place that the error names."""
    for seed in range(3):
        ledger.promote(store, publish(store, tmp_path, seed), "good")
    assert len(ledger.entries(store)) == 3
    keys = store.keys(ledger.LEDGER)
    if how == "changed":
        store.put(keys[1], store.get(keys[1]).replace(b"good", b"evil"))
    elif how == "removed":
        store.delete(keys[1])
    elif how == "replaced":
        store.put(keys[1], store.get(keys[0]))
    else:
        store.put(keys[1], b"{")
    with pytest.raises(ReleaseError, match="ledger entry"):
        ledger.entries(store)


@pytest.mark.parametrize("name", [".DS_Store", "notes.txt", "00000001.json~"])
def test_a_file_that_is_no_entry_is_passed_over(store: FileStore, tmp_path: Path, name: str) -> None:
    """What a file manager or an editor leaves beside the ledger's entries changes nothing."""
    version = publish(store, tmp_path)
    ledger.promote(store, version, "good")
    store.put(ledger.LEDGER + name, b"\xff\xfe")
    assert (ledger.champion(store), len(ledger.entries(store))) == (version, 1)
    ledger.promote(store, publish(store, tmp_path, 1), "better")
    assert ledger.rollback(store).version == version


def test_a_garbled_newest_entry_is_our_error(store: FileStore, tmp_path: Path) -> None:
    """Asking for the champion of a damaged ledger is refused with the entry's name, not answered wrongly."""
    ledger.promote(store, publish(store, tmp_path), "good")
    store.put(store.keys(ledger.LEDGER)[-1], b'{"n": 1}')
    with pytest.raises(ReleaseError, match=r"ledger entry .*00000001"):
        ledger.champion(store)


@pytest.mark.parametrize("what", ["folder", "link"])
def test_a_taken_name_is_no_endless_promotion(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A folder or a dead link in the next entry's place ends promotion and rollback with its name, and stays."""
    monkeypatch.setattr(ledger, "LISTED_PAUSE", 0)
    versions = [publish(store, tmp_path, seed) for seed in range(3)]
    for version in versions[:2]:
        ledger.promote(store, version, "good")
    taken = store.root / ledger.LEDGER / "00000003.json"
    if what == "folder":
        (taken / "x").mkdir(parents=True)
    else:
        taken.symlink_to("nowhere")
    for attempt in (lambda: ledger.promote(store, versions[2], "better"), lambda: ledger.rollback(store)):
        with pytest.raises(ReleaseError, match=r"00000003\.json in file://.* its name is taken"):
            attempt()
    assert ledger.champion(store) == versions[1]


def test_an_entry_in_anothers_place_is_no_endless_promotion(store: FileStore, tmp_path: Path) -> None:
    """The newest entry, replaced by an earlier one, is damaged: after it would come its own number again."""
    for seed in range(2):
        ledger.promote(store, publish(store, tmp_path, seed), "good")
    first, second = store.keys(ledger.LEDGER)
    store.put(second, store.get(first))
    with pytest.raises(ReleaseError, match=r"00000002\.json is damaged: it says that it is number 1"):
        ledger.promote(store, publish(store, tmp_path, 2), "better")


def test_promotions_at_once_lose_none(store: FileStore, tmp_path: Path) -> None:
    """Eight threads promote eight releases at once: eight entries, one chain, each release once."""
    versions = [publish(store, tmp_path, seed) for seed in range(8)]
    barrier = threading.Barrier(8)

    def promote(version: str) -> None:
        barrier.wait(10)
        ledger.promote(store, version, "at once")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(promote, versions))
    entries = ledger.entries(store)
    assert sorted(entry.version for entry in entries) == sorted(versions)
    assert ledger.champion(store) == entries[-1].version


def test_a_promotion_is_judged_again_when_another_comes_between(store: FileStore, tmp_path: Path) -> None:
    """The judge sees the champion that it would replace, and may give up."""
    first, second, third = (publish(store, tmp_path, seed) for seed in range(3))
    ledger.promote(store, first, "first")
    seen = []

    def judge(champion: str) -> str | None:
        seen.append(champion)
        if len(seen) == 1:
            ledger.promote(store, second, "came between")
            return "better than the first"
        return None

    assert ledger.promote(store, third, "", still=judge) is None
    assert seen == [first, second]
    assert [entry.version for entry in ledger.entries(store)] == [first, second]


def test_rolling_back_twice_goes_further_back(store: FileStore, tmp_path: Path) -> None:
    """Each rollback goes one champion further, and the first champion has none before it."""
    versions = [publish(store, tmp_path, seed) for seed in range(3)]
    with pytest.raises(ReleaseError, match="no earlier champion"):
        ledger.rollback(store)
    for version in versions:
        ledger.promote(store, version, "good")
    assert ledger.rollback(store).version == versions[1]
    assert ledger.previous(store) == versions[0]
    assert ledger.rollback(store).version == versions[0]
    with pytest.raises(ReleaseError, match="no earlier champion"):
        ledger.rollback(store)
    assert [entry.action for entry in ledger.entries(store)] == ["promote"] * 3 + ["rollback"] * 2
    ledger.promote(store, versions[2], "again")
    assert (ledger.champion(store), ledger.previous(store)) == (versions[2], versions[0])


def test_a_release_that_came_back_is_gone_back_through_once(store: FileStore, tmp_path: Path) -> None:
    """After A, B, A two rollbacks come to B and to the first A, and there the way ends."""
    a, b = (publish(store, tmp_path, seed) for seed in range(2))
    for version in (a, b, a):
        ledger.promote(store, version, "good")
    assert (ledger.rollback(store).version, ledger.previous(store)) == (b, a)
    assert (ledger.rollback(store).version, ledger.previous(store)) == (a, "")
    with pytest.raises(ReleaseError, match="no earlier champion"):
        ledger.rollback(store)
    ledger.promote(store, b, "again")
    assert (ledger.rollback(store).version, ledger.previous(store)) == (a, "")


def test_a_damaged_release_is_listed_apart(store: FileStore, tmp_path: Path) -> None:
    """One manifest that cannot be read hides no other release, and is named with the reason."""
    intact, cut, bare = (publish(store, tmp_path, seed) for seed in range(3))
    store.put(releases.release_prefix(cut) + releases.MANIFEST, b'{"version": ')
    manifest = releases.load(store, bare)
    store.put(releases.release_prefix(bare) + releases.MANIFEST, json.dumps(manifest | {"metrics": {}}).encode())
    found, damaged = releases.listed(store)
    assert [manifest["version"] for manifest in found] == [intact]
    assert set(damaged) == {cut, bare}
    assert all("is damaged" in why for why in damaged.values())


def test_the_serving_layout_follows_the_champion(store: FileStore, tmp_path: Path) -> None:
    """TensorFlow Serving's folder holds the newest champions under rising numbers, and no more than two."""
    with pytest.raises(ReleaseError, match="no champion"):
        ledger.write_serving_layout(store)
    for seed in range(3):
        ledger.promote(store, publish(store, tmp_path, seed), "good")
        prefix = ledger.write_serving_layout(store)
        assert prefix == f"models/detect-digits/{seed + 1}/"
        assert store.get(prefix + "saved_model.pb") == b"model saved_model/saved_model.pb"
    assert {key.split("/")[2] for key in store.keys(ledger.SERVING)} == {"2", "3"}


def test_a_real_release_holds_what_it_should(finished: Finished, tmp_path: Path) -> None:
    """A run's release has all three exports, a golden image, and everything that made it."""
    manifest = releases.download(finished.store, finished.version, tmp_path)
    assert {"model.onnx", "model.keras", "saved_model/saved_model.pb"} <= set(manifest["files"])
    assert {"weights", "data", "code", "libraries", "parameters", "mlflow_run", "metrics", "golden"} <= set(manifest)
    assert manifest["metrics"]["accuracy"] == finished.facts["accuracy"]
    assert str(tmp_path) not in json.dumps(manifest)
    assert ledger.champion(finished.store) == finished.version
    assert releases.release_uri(finished.store, finished.version).endswith(f"{finished.version}/")


def test_another_release_is_listed_after_the_first(finished: Finished, tmp_path: Path) -> None:
    """Releases are listed oldest first, and a new one is no champion by itself."""
    settings = finished.copy(tmp_path / "home")
    store = FileStore(settings.home / "store")
    second = another_release(store, finished.version)["version"]
    assert [manifest["version"] for manifest in releases.versions(store)] == [finished.version, second]
    assert ledger.champion(store) == finished.version


def test_a_release_is_copied_as_it_is(store: FileStore, tmp_path: Path) -> None:
    """Every object of it is the same in the other store; a second copy changes nothing, a damaged file is refused."""
    other = FileStore(tmp_path / "other")
    version = publish(store, tmp_path)
    assert releases.copy(store, other, version) == releases.load(store, version)
    assert {key: other.get(key) for key in other.keys()} == {  # noqa: SIM118 # a method of ours
        key: store.get(key) for key in store.keys(releases.release_prefix(version))
    }
    store.put(f"{releases.release_prefix(version)}model.onnx", b"something else")
    assert releases.copy(store, other, version) == releases.load(store, version)
    third = FileStore(tmp_path / "third")
    with pytest.raises(ReleaseError, match="SHA-256"):
        releases.copy(store, third, version)
    assert not third.exists(f"{releases.release_prefix(version)}{releases.MANIFEST}")
    with pytest.raises(ReleaseError, match="no release"):
        releases.copy(store, third, "nothing")


@pytest.mark.parametrize("name", ["model.keras", "saved_model/saved_model.pb"])
def test_a_copy_writes_no_manifest_over_anothers_files(
    name: str, store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a cut-off copy from another store left is refused with both digests; once it is removed, copying goes on."""
    monkeypatch.setattr(releases, "OTHERS_SECONDS", 0)
    target = FileStore(tmp_path / "target")
    version = publish(store, tmp_path)
    prefix, ours, theirs = releases.release_prefix(version), sha256_of(f"model {name}".encode()), sha256_of(b"theirs")
    target.put(prefix + name, b"theirs")
    with pytest.raises(ReleaseError, match=rf"{prefix}{name}: expected SHA-256 {ours}, found {theirs}") as refused:
        releases.copy(store, target, version)
    assert f"{target.uri}/{prefix}" in refused.value.remedy
    assert not target.exists(prefix + releases.MANIFEST)
    target.delete(prefix + name)
    releases.copy(store, target, version)
    releases.download(target, version, tmp_path / "got")


def test_a_copy_that_was_cut_off_goes_on(store: FileStore, tmp_path: Path) -> None:
    """The release's own files, left by an earlier copy, are taken as they are."""
    target = FileStore(tmp_path / "target")
    version = publish(store, tmp_path)
    key = f"{releases.release_prefix(version)}model.onnx"
    target.put(key, store.get(key))
    releases.copy(store, target, version)
    releases.download(target, version, tmp_path / "got")

"""Releases are named by their content, listed, found and checked."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from digits.errors import ReleaseError, StoreError
from digits.release import ledger, releases
from digits.store.file import FileStore
from tests.helpers.small_releases import DATA, release_folder, small_release
from tests.helpers.support import Finished, another_release


def test_a_version_depends_on_the_content_only() -> None:
    """The same content has the same version, whatever the order of keys; each part counts."""
    parts: dict[str, Any] = {"weights": "w", "data": DATA, "code": "c", "parameters": {"a": 1, "b": 2}}
    digest = releases.identity(**parts)
    assert digest == releases.identity(**parts | {"parameters": {"b": 2, "a": 1}})
    for change in ({"weights": "x"}, {"data": DATA | {"train": "u"}}, {"code": "d"}, {"parameters": {"a": 1, "b": 3}}):
        assert releases.identity(**parts | change) != digest
    assert len(releases.version_from_digest(digest)) == 12


@pytest.mark.parametrize("damage", ["cut", "other version", "no files", "a list"])
def test_a_damaged_manifest_is_refused(damage: str, store: FileStore, tmp_path: Path) -> None:
    """A file that is not a manifest of this version is a ReleaseError."""
    version = small_release(store, tmp_path)
    key = releases.release_prefix(store, version) + releases.MANIFEST
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


def test_a_release_in_the_folder_of_another_task_is_refused(store: FileStore, tmp_path: Path) -> None:
    """A release that is copied to another task's folder, which its signature does not prevent, is a ReleaseError."""
    version = small_release(store, tmp_path)
    copied = {key: store.get(key) for key in store.keys("models/digits/")}
    store.task = "shapes"
    for key, content in copied.items():
        store.put(key.replace("models/digits/", "models/shapes/"), content)
    with pytest.raises(ReleaseError, match="it is for the task digits"):
        releases.download(store, version, tmp_path / "copy")
    assert version in releases.list_releases(store)[1]


def test_a_changed_file_is_detected(store: FileStore, tmp_path: Path) -> None:
    """One changed byte refuses the download, and the error names the file, which is not left behind."""
    version = small_release(store, tmp_path)
    releases.download(store, version, tmp_path / "good")
    store.put(releases.release_prefix(store, version) + "model.onnx", b"tampered")
    with pytest.raises(ReleaseError, match=r"model\.onnx is damaged: expected SHA-256"):
        releases.download(store, version, tmp_path / "bad")
    assert not (tmp_path / "bad" / "model.onnx").exists()
    store.delete(releases.release_prefix(store, version) + "model.onnx")
    with pytest.raises(ReleaseError, match=r"model\.onnx"):
        releases.download(store, version, tmp_path / "bad")


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "saved_model/../../outside", "a\\..\\b"])
def test_a_manifest_cannot_name_a_file_outside_its_release(name: str, store: FileStore, tmp_path: Path) -> None:
    """A path that leads out of the release is refused, in a store and in a folder."""
    version = small_release(store, tmp_path)
    key = releases.release_prefix(store, version) + releases.MANIFEST
    manifest = json.loads(store.get(key))
    manifest["files"][name] = manifest["files"]["model.onnx"]
    store.put(key, json.dumps(manifest).encode())
    with pytest.raises((ReleaseError, StoreError)):
        releases.download(store, version, tmp_path / "x" / "got")
    assert not list(tmp_path.rglob("*outside*"))
    folder = release_folder(tmp_path / "folder")
    (folder / releases.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ReleaseError, match="outside its release"):
        releases.check_folder(folder)


@pytest.mark.parametrize("name", ["a\0b", "x" * 300])
def test_a_name_that_no_file_can_have_is_refused(name: str, store: FileStore, tmp_path: Path) -> None:
    """A manifest with a name that no file can have is a ReleaseError, not an error of the system."""
    folder = release_folder(tmp_path / "folder")
    manifest = releases.download(store, small_release(store, tmp_path), folder)
    manifest["files"][name] = manifest["files"]["model.onnx"]
    (folder / releases.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ReleaseError, match="cannot be read"):
        releases.check_folder(folder)


def test_a_folder_may_be_a_link_but_contain_none(store: FileStore, tmp_path: Path) -> None:
    """A release may be mounted anywhere, but its files must be in its folder."""
    manifest = releases.download(store, small_release(store, tmp_path), tmp_path / "got")
    (tmp_path / "mounted").symlink_to(tmp_path / "got")
    assert releases.check_folder(tmp_path / "mounted") == manifest
    (tmp_path / "got" / "saved_model").rename(tmp_path / "elsewhere")
    (tmp_path / "got" / "saved_model").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ReleaseError, match="is a link or below one"):
        releases.check_folder(tmp_path / "got")


@pytest.mark.parametrize("damage", ["none", "no manifest", "changed", "missing model", "link", "not JSON"])
def test_a_folder_is_checked(damage: str, store: FileStore, tmp_path: Path) -> None:
    """An intact release in a folder is accepted, a damaged one refused with the reason."""
    folder = tmp_path / "got"
    manifest = releases.download(store, small_release(store, tmp_path), folder)
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


def test_a_damaged_release_is_listed_separately(store: FileStore, tmp_path: Path) -> None:
    """A manifest that cannot be read hides no other release, and is listed with the reason."""
    intact, cut, bare = (small_release(store, tmp_path, seed) for seed in range(3))
    store.put(releases.release_prefix(store, cut) + releases.MANIFEST, b'{"version": ')
    manifest = releases.load(store, bare)
    store.put(releases.release_prefix(store, bare) + releases.MANIFEST, json.dumps(manifest | {"metrics": {}}).encode())
    manifests, damaged = releases.list_releases(store)
    assert [manifest["version"] for manifest in manifests] == [intact]
    assert set(damaged) == {cut, bare}
    assert all("is damaged" in why for why in damaged.values())
    foreign = store.root / "models/digits/\x1b[2J" / releases.MANIFEST
    foreign.parent.mkdir()
    foreign.write_bytes(store.get(releases.release_prefix(store, intact) + releases.MANIFEST))
    assert releases.list_releases(store)[0] == manifests


def test_the_release_of_a_run_is_complete(finished: Finished, tmp_path: Path) -> None:
    """A release has all three exports, a golden image, and the data, code and parameters that determine it."""
    manifest = releases.download(finished.store, finished.version, tmp_path)
    assert {"model.onnx", "model.keras", "saved_model/saved_model.pb"} <= set(manifest["files"])
    assert {"weights", "data", "code", "libraries", "parameters", "mlflow_run", "metrics", "golden"} <= set(manifest)
    assert manifest["metrics"]["accuracy"] == finished.published.accuracy
    assert str(tmp_path) not in json.dumps(manifest)
    assert ledger.champion(finished.store) == finished.version
    assert releases.release_uri(finished.store, finished.version).endswith(f"{finished.version}/")


def test_releases_are_listed_oldest_first(finished: Finished, tmp_path: Path) -> None:
    """A new release is listed last, and is not the champion by itself."""
    settings = finished.copy(tmp_path / "home")
    store = FileStore(settings.home / "store")
    second = another_release(store, finished.version)["version"]
    assert [manifest["version"] for manifest in releases.list_releases(store)[0]] == [finished.version, second]
    assert ledger.champion(store) == finished.version


@pytest.mark.parametrize("damage", ["nested deeply", "a named pipe"])
def test_an_odd_manifest_is_refused(damage: str, store: FileStore, tmp_path: Path) -> None:
    """A manifest that exhausts a parser, or a pipe without a writer, is refused in the store and in a folder."""
    version = small_release(store, tmp_path)
    releases.download(store, version, tmp_path / "got")
    for file in (
        store.root / releases.release_prefix(store, version) / releases.MANIFEST,
        tmp_path / "got/manifest.json",
    ):
        file.unlink()
        file.write_text("[" * 100_000) if damage == "nested deeply" else os.mkfifo(file)
    for request in (lambda: releases.load(store, version), lambda: releases.check_folder(tmp_path / "got")):
        with pytest.raises(ReleaseError):
            request()


@pytest.mark.parametrize("value", [None, [], {}, "\x1b[2J", -1, float("nan"), "missing"])
@pytest.mark.parametrize(
    "path",
    ["created", "digest", "mlflow_run", "data.dataset", "data.source", "files", "metrics.accuracy", "calibration"],
)
def test_fields_of_another_type_are_damage(path: str, value: object, store: FileStore, tmp_path: Path) -> None:
    """A manifest whose fields cannot be printed or reported is refused in the store and in a folder, and listed."""
    if path == "calibration":  # a release may have none
        path, value = "calibration.threshold", [value]
    version = small_release(store, tmp_path)
    key = releases.release_prefix(store, version) + releases.MANIFEST
    releases.download(store, version, tmp_path / "got")
    manifest = json.loads(store.get(key))
    *folders, name = path.split(".")
    holder = manifest.setdefault(folders[0], {}) if folders else manifest
    holder[name] = value
    if value == "missing":
        del holder[name]
    for file in (store.root / key, tmp_path / "got" / releases.MANIFEST):
        file.chmod(0o600)
        file.write_text(json.dumps(manifest))
    with pytest.raises(ReleaseError, match="damaged"):
        releases.check_folder(tmp_path / "got")
    assert [*releases.list_releases(store)[1]] == [version]


@pytest.mark.parametrize("name", ["model.onnx", "model.keras"])
@pytest.mark.parametrize("digest", ["", None, "A" * 64])
def test_a_file_without_a_digest_is_damage(digest: object, name: str, store: FileStore, tmp_path: Path) -> None:
    """A manifest that states no SHA-256 for a file is refused, because any content of that file would be accepted."""
    version = small_release(store, tmp_path)
    prefix = releases.release_prefix(store, version)
    manifest = json.loads(store.get(prefix + releases.MANIFEST))
    manifest["files"][name] = digest
    store.put(prefix + releases.MANIFEST, json.dumps(manifest).encode())
    store.put(prefix + name, b"other")
    with pytest.raises(ReleaseError, match=f"expected the SHA-256 of {name}|printable"):
        releases.load_whole(store, version)
    with pytest.raises(ReleaseError, match="damaged"):
        releases.download(store, version, tmp_path / "got")

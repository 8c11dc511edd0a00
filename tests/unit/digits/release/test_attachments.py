"""Provenance, bill of materials, model card and signature next to a release."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from digits.errors import ReleaseError
from digits.files import sha256_of
from digits.release import attachments, releases, signatures
from digits.release.write import copy_release, write_release
from digits.store import Trust
from digits.store.file import FileStore
from digits.tasks.task import find
from tests.helpers.signing import new_keys, signed_store
from tests.helpers.small_releases import manifest, release_folder, small_release


def contents(store: FileStore) -> dict[str, bytes]:
    return {key: store.get(key) for key in store.keys("")}


def test_a_label_is_no_markup_in_the_model_card() -> None:
    """Labels may be the names of another user's folders, and some viewers of Markdown run the HTML in it."""
    task = dataclasses.replace(find("fashion"), name="odd", labels=("<script>alert(1)</script>", "T-shirt", "a_b"))
    card = attachments.model_card(manifest(0) | {"created": "now", "task": task.text()})
    assert r"Classes: \<script>alert(1)\</script>, T-shirt, a\_b." in card


def test_the_documents_are_about_the_release(tmp_path: Path) -> None:
    """The provenance names each file and the data, code and parameters; the bill of materials names the model."""
    store = FileStore(tmp_path / "store")
    version = small_release(store, tmp_path)
    prefix = releases.release_prefix(store, version)
    stored = json.loads(store.get(prefix + releases.MANIFEST))
    statement = json.loads(store.get(prefix + releases.PROVENANCE))
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    subjects = {file["name"]: file["digest"]["sha256"] for file in statement["subject"]}
    assert subjects == stored["files"] | {releases.MANIFEST: sha256_of(store.get(prefix + releases.MANIFEST))}
    build = statement["predicate"]["buildDefinition"]
    assert build["externalParameters"] == {"seed": 0, "dataset": "mnist"}
    named = {material["name"]: material["digest"]["sha256"] for material in build["resolvedDependencies"]}
    assert named == {"data/source": "s", "data/train": "t", "code/train": "c"}
    bom = json.loads(store.get(prefix + releases.BOM))
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    assert bom["metadata"]["component"]["hashes"][0]["content"] == stored["files"]["model.onnx"]
    assert version in store.get(prefix + releases.CARD).decode()
    assert not store.exists(prefix + releases.SIGNATURE)


def test_image_and_times_are_in_the_provenance() -> None:
    """The digest of the steps' image and the begin of the training are stated if they are known."""
    made = manifest(0) | {"created": "2026-01-01T00:01:00.000+00:00", "libraries": {"numpy": "2.4"}}
    made["build"] = {"seconds": 60, "image": "steps@sha256:ab"}
    predicate = attachments.provenance(made, {"model.onnx": "m"})["predicate"]
    materials = predicate["buildDefinition"]["resolvedDependencies"]
    assert {"uri": "oci:steps", "digest": {"sha256": "ab"}} in materials
    assert {"uri": "pkg:pypi/numpy@2.4"} in materials
    assert predicate["runDetails"]["metadata"]["startedOn"] == "2026-01-01T00:00:00.000+00:00"


def test_writing_a_signed_release_again_changes_nothing(tmp_path: Path) -> None:
    """Signature and documents are the same bytes each time, and survive a writer without a key."""
    store, _ = signed_store(tmp_path)
    folder = release_folder(tmp_path / "made")
    made = write_release(store, folder, manifest(0))
    before = contents(store)
    assert write_release(store, folder, manifest(0)) == made
    assert contents(store) == before
    store.trust = Trust()
    write_release(store, folder, manifest(0))
    assert contents(store) == before


def test_an_unsigned_release_is_refused_and_signed_when_it_is_published_again(tmp_path: Path) -> None:
    """A reader with trusted keys refuses it with the key that is missing, until its publisher signs it."""
    store, public = signed_store(tmp_path)
    trust, store.trust = store.trust, Trust()
    folder = release_folder(tmp_path / "made")
    version = write_release(store, folder, manifest(0))["version"]
    store.trust = trust
    key = next(iter(signatures.read_keys(str(public))))
    for read in (releases.load, releases.load_whole):
        with pytest.raises(ReleaseError, match=f"not signed; expected a signature by key {key[:16]}"):
            read(store, version)
    assert releases.list_releases(store)[1].keys() == {version}
    write_release(store, folder, manifest(0))
    assert releases.load_whole(store, version)["version"] == version


@pytest.mark.parametrize("name", [*releases.ATTACHED, releases.SIGNATURE])
def test_damage_of_a_signed_release_is_seen_without_trusted_keys(name: str, tmp_path: Path) -> None:
    """A changed document fails the check of the release, and publishing, until it is signed again or not signed."""
    store, _ = signed_store(tmp_path)
    trust, store.trust = store.trust, Trust()
    folder = release_folder(tmp_path / "made")
    store.trust = Trust(signing_key=trust.signing_key)
    version = write_release(store, folder, manifest(0))["version"]
    prefix, intact = releases.release_prefix(store, version), contents(store)
    for repair in ("sign again", "remove the signature"):
        store.trust = Trust()
        store.put(prefix + name, store.get(prefix + name) + b" ")
        if name == releases.SIGNATURE:
            store.put(prefix + name, b"{}")
        with pytest.raises(ReleaseError, match=name if name != releases.SIGNATURE else "damaged"):
            releases.load_whole(store, version)
        with pytest.raises(ReleaseError) as refused:
            write_release(store, folder, manifest(0))
        assert "DIGITS_SIGNING_KEY" in refused.value.remedy
        if repair == "sign again":
            store.trust = Trust(signing_key=trust.signing_key)
        else:
            store.delete(prefix + releases.SIGNATURE)
        write_release(store, folder, manifest(0))
        releases.load_whole(store, version)
        assert attachments.are_whole(store, version)
        assert (contents(store) == intact) == (repair == "sign again")


def test_files_that_are_not_ours_are_not_signed(tmp_path: Path) -> None:
    """A writer with a key replaces other files under its release's name before it signs."""
    store, public = signed_store(tmp_path)
    trust = store.trust
    store.trust = Trust()
    version = write_release(store, release_folder(tmp_path / "other", "forged"), manifest(0))["version"]
    store.trust = Trust(signing_key=trust.signing_key)
    write_release(store, release_folder(tmp_path / "made"), manifest(0))
    store.trust = trust
    releases.download(store, version, tmp_path / "got")
    assert (tmp_path / "got" / "model.onnx").read_text() == "model model.onnx"
    assert releases.check_folder(tmp_path / "got", str(public))["version"] == version


def test_a_copy_has_the_signature(tmp_path: Path) -> None:
    """A copied release is accepted by the readers of the other store, also if it was copied before it was signed."""
    store, _ = signed_store(tmp_path)
    trust, store.trust = store.trust, Trust()
    target = FileStore(tmp_path / "target")
    version = small_release(store, tmp_path / "made")
    copy_release(store, target, version)
    store.trust = trust
    target.trust = Trust(trust.keys)
    small_release(store, tmp_path / "again")
    copy_release(store, target, version)
    assert releases.load_whole(target, version)["version"] == version


@pytest.mark.parametrize("name", [*releases.ATTACHED, releases.SIGNATURE, releases.MANIFEST, "model.onnx"])
def test_a_folder_without_a_signed_file_is_refused(name: str, tmp_path: Path) -> None:
    """A pod's folder needs the model and all that describes it; other files may be missing."""
    store, public = signed_store(tmp_path)
    releases.download(store, small_release(store, tmp_path / "made"), tmp_path / "got")
    (tmp_path / "got" / "model.keras").unlink()
    releases.check_folder(tmp_path / "got", str(public))
    (tmp_path / "got" / name).unlink()
    with pytest.raises(ReleaseError):
        releases.check_folder(tmp_path / "got", str(public))


def test_a_release_signed_by_another_key_is_refused(tmp_path: Path) -> None:
    """The error names the key that signed it and the one that was expected."""
    store, public = signed_store(tmp_path)
    version = small_release(store, tmp_path / "made")
    other = new_keys(tmp_path, name="other")[1]
    names = [next(iter(signatures.read_keys(str(path))))[:16] for path in (public, other)]
    store.trust = Trust(str(other))
    with pytest.raises(ReleaseError, match="signed by key {}; expected key {}".format(*names)):
        releases.load(store, version)

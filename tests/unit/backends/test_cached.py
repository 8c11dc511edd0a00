"""A cached result is used only if all that it stands for is there, and publishing again restores what is not."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends import cached
from backends.cached import fingerprint, is_published, is_usable, record_mlflow
from digits.data.block_index import Index
from digits.data.dataset import Dataset
from digits.data.stored_blocks import StoredBlocks
from digits.errors import DigitsError
from digits.files import write_whole
from digits.release import ledger, mlflow_registry, releases
from digits.release.publish import publish_candidate
from digits.settings import Settings
from digits.store import open_store
from digits.store.file import FileStore
from tests.helpers.support import Finished, another_release, open_mlflow

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's, about its own libraries


class Place:
    """A home with a published release, which is the second champion. `reset` undoes all damage."""

    def __init__(self, finished: Finished, folder: Path) -> None:
        self.finished, self.kept = finished, folder / "kept"
        self.settings = finished.empty(folder / "home")
        self.home, self.store = self.settings.home, FileStore(self.settings.home / "store")
        self.version = finished.version
        self.release = self.home / "store" / "models" / "digits" / self.version
        self.ledger = self.home / "store" / "promotions"
        self.published = self.publish()
        earlier = another_release(self.store, self.version, seed=4242)["version"]
        for key in self.store.keys(ledger.folder(self.store)):
            self.store.delete(key)
        ledger.promote(self.store, earlier, "made before")
        entry = ledger.newest(self.store)
        ledger.append(self.store, entry, self.version, "better")
        self.published = self.publish() | {"promoted": True}
        shutil.copytree(self.home, self.kept)

    def publish(self) -> dict[str, Any]:
        return asdict(publish_candidate(self.settings, self.store, self.finished.candidate(), "digits-tests")[0])

    def begin_ledger(self) -> None:
        """Do what `digits promote VERSION --new-ledger` does with the ledger."""
        ledger.set_aside(self.store)
        ledger.promote(self.store, self.version, "after a damage")

    def is_published(self) -> bool:
        return is_published(self.settings, self.published)

    def reset(self) -> None:
        shutil.rmtree(self.home)
        shutil.copytree(self.kept, self.home)

    def change(self, name: str = "manifest.json", /, **changes: Any) -> None:
        """Change entries of the manifest or of another file of the release."""
        file = self.release / name
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    def logged(self, name: str) -> Path:
        """Return a file that MLflow keeps for the release: of its run, or of its registered model."""
        client = open_mlflow(self.settings)
        run = releases.load(self.store, self.version)["mlflow_run"]
        number = mlflow_registry.find_registered(self.settings, self.version)
        model = client.get_model_version("digits", number).source.removeprefix("models:/")
        (found,) = (
            *self.home.glob(f"mlartifacts/{run}/**/{name}"),
            *self.home.glob(f"mlartifacts/models/{model}/**/{name}"),
        )
        return found

    def sql(self, statement: str) -> None:
        with contextlib.closing(sqlite3.connect(self.home / "mlflow.db")) as connection:
            connection.execute(statement)
            connection.commit()


@pytest.fixture(scope="module")
def made(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(finished, tmp_path_factory.mktemp("place"))


@pytest.fixture
def place(made: Place) -> Iterator[Place]:
    """A published release, to be damaged."""
    yield made
    made.reset()


def flip(file: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def as_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def as_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def manifest(place: Place) -> dict[str, Any]:
    return releases.load(place.store, place.version)


def copies(place: Place) -> Path:
    return place.home / "store" / "models" / "detect-digits" / "2"


# tests/unit/digits/release/test_releases.py has more damaged manifests.
DAMAGES: dict[str, Callable[[Place], object]] = {
    "model.onnx deleted": lambda p: (p.release / "model.onnx").unlink(),
    "model.onnx changed": lambda p: flip(p.release / "model.onnx"),
    "model.keras cut": lambda p: cut(p.release / "model.keras"),
    "model.keras a named pipe": lambda p: as_pipe(p.release / "model.keras"),
    "SavedModel deleted": lambda p: shutil.rmtree(p.release / "saved_model"),
    "graph changed": lambda p: flip(p.release / "saved_model" / "saved_model.pb"),
    "manifest deleted": lambda p: (p.release / "manifest.json").unlink(),
    "manifest cut": lambda p: cut(p.release / "manifest.json"),
    "manifest a named pipe": lambda p: as_pipe(p.release / "manifest.json"),
    "manifest's weights changed": lambda p: p.change(weights="0" * 64),
    "manifest's code changed": lambda p: p.change(code="0" * 64),
    "manifest's accuracy changed": lambda p: p.change(metrics=manifest(p)["metrics"] | {"accuracy": 1.0}),
    "manifest's digests changed": lambda p: p.change(files=manifest(p)["files"] | {"model.onnx": "0" * 64}),
    "manifest's run changed": lambda p: p.change(mlflow_run="0" * 32),
    "manifest's golden image lost": lambda p: p.change(golden=None),
    "model card changed": lambda p: flip(p.release / "model-card.md"),
    "provenance changed": lambda p: flip(p.release / "provenance.json"),
    "bill of materials of nothing": lambda p: p.change("bom.cdx.json", components=[]),
    "release deleted": lambda p: shutil.rmtree(p.release),
    "all releases deleted": lambda p: shutil.rmtree(p.home / "store" / "models"),
    "copy for TensorFlow Serving deleted": lambda p: shutil.rmtree(copies(p)),
    "copy for TensorFlow Serving changed": lambda p: flip(copies(p) / "saved_model.pb"),
    "store deleted": lambda p: shutil.rmtree(p.home / "store"),
    "ledger deleted": lambda p: shutil.rmtree(p.ledger),
    "newest entry deleted": lambda p: (p.ledger / "digits" / "00000002.json").unlink(),
    "MLflow's database deleted": lambda p: (p.home / "mlflow.db").unlink(),
    "MLflow's artifacts deleted": lambda p: shutil.rmtree(p.home / "mlartifacts"),
    "registered model deleted": lambda p: open_mlflow(p.settings).delete_registered_model("digits"),
    "registered version deleted": lambda p: p.sql("DELETE FROM model_versions"),
    "run deleted": lambda p: open_mlflow(p.settings).delete_run(manifest(p)["mlflow_run"]),
    "run's release changed": lambda p: open_mlflow(p.settings).set_tag(
        manifest(p)["mlflow_run"], "release_digest", "0"
    ),
    "logged manifest deleted": lambda p: p.logged("manifest.json").unlink(),
    "logged manifest cut": lambda p: cut(p.logged("manifest.json")),
    "logged manifest a named pipe": lambda p: as_pipe(p.logged("manifest.json")),
    "logged manifest a folder": lambda p: as_folder(p.logged("manifest.json")),
    "logged model deleted": lambda p: p.logged("model.onnx").unlink(),
    "logged model changed": lambda p: flip(p.logged("model.onnx")),
    "logged model's description deleted": lambda p: p.logged("MLmodel").unlink(),
    "logged model's description garbage": lambda p: p.logged("MLmodel").write_text("- ["),
    "logged model's signature deleted": lambda p: p.logged("MLmodel").write_text(
        p.logged("MLmodel").read_text().replace("signature:", "other:")
    ),
    "logged model's requirements deleted": lambda p: p.logged("requirements.txt").unlink(),
    "logged model's environment deleted": lambda p: p.logged("python_env.yaml").unlink(),
    "logged architecture deleted": lambda p: p.logged("architecture.json").unlink(),
    "logged confusion matrix emptied": lambda p: p.logged("confusion_matrix.json").write_bytes(b""),
    "logged architecture changed": lambda p: flip(p.logged("architecture.json")),
    "logged confusion matrix changed": lambda p: flip(p.logged("confusion_matrix.json")),
    "logged confusion matrix a named pipe": lambda p: as_pipe(p.logged("confusion_matrix.json")),
    "logged report changed": lambda p: flip(p.logged("report.html")),
    "logged report deleted": lambda p: p.logged("report.html").unlink(),
    "metrics deleted": lambda p: p.sql("DELETE FROM latest_metrics"),
    "one metric changed": lambda p: p.sql("UPDATE latest_metrics SET value = 1 WHERE key = 'test_accuracy'"),
    "one class's recall deleted": lambda p: p.sql("DELETE FROM latest_metrics WHERE key = 'test_recall_3'"),
    "one class's recall changed": lambda p: p.sql("UPDATE latest_metrics SET value = 0.5 WHERE key = 'test_recall_3'"),
    "a curve changed": lambda p: p.sql("UPDATE metrics SET value = 0.5 WHERE key = 'val_accuracy'"),
    "curves deleted": lambda p: p.sql("DELETE FROM metrics"),
    "parameters deleted": lambda p: p.sql("DELETE FROM params"),
    "tag deleted": lambda p: p.sql("DELETE FROM tags WHERE key = 'dataset'"),
    "decision deleted": lambda p: p.sql("DELETE FROM tags WHERE key = 'decision'"),
    "experiment deleted": lambda p: open_mlflow(p.settings).delete_experiment("1"),
    "only the experiment marked deleted": lambda p: p.sql("UPDATE experiments SET lifecycle_stage = 'deleted'"),
    "registration failed": lambda p: p.sql("UPDATE model_versions SET status = 'FAILED_REGISTRATION'"),
    "registered version's tags deleted": lambda p: p.sql("DELETE FROM model_version_tags WHERE key = 'digest'"),
}

# Damages in different files or records, which the same code restores: one publication restores those of a line.
TOGETHER = (
    ("model.onnx deleted", "model.keras cut", "graph changed"),
    ("model.onnx changed", "model.keras a named pipe", "SavedModel deleted"),
    ("model card changed", "provenance changed", "bill of materials of nothing"),
    ("copy for TensorFlow Serving deleted", "logged model deleted", "logged model's signature deleted"),
    ("copy for TensorFlow Serving changed", "logged model changed", "logged model's description garbage",
     "logged model's requirements deleted", "logged model's environment deleted"),
    ("logged architecture deleted", "logged confusion matrix emptied", "logged report deleted", "metrics deleted",
     "curves deleted", "parameters deleted", "tag deleted", "decision deleted", "run's release changed"),
    ("logged architecture changed", "logged confusion matrix changed", "logged report changed", "one metric changed",
     "one class's recall deleted", "a curve changed"),
    ("logged confusion matrix a named pipe", "one class's recall changed", "logged model's description deleted"),
)  # fmt: skip
ALONE = [(name,) for name in DAMAGES if not any(name in names for names in TOGETHER)]

# The damage, a part of the remedy, and what it asks for.
NAMED: dict[str, tuple[Callable[[Place], object], str, Callable[[Place], object]]] = {
    "first entry deleted": (
        lambda p: (p.ledger / "digits" / "00000001.json").unlink(),
        "digits promote VERSION --new-ledger",
        lambda p: p.begin_ledger(),
    ),
    "newest entry cut": (
        lambda p: cut(p.ledger / "digits" / "00000002.json"),
        "digits promote VERSION --new-ledger",
        lambda p: p.begin_ledger(),
    ),
    "first entry changed": (
        lambda p: flip(p.ledger / "digits" / "00000001.json"),
        "digits promote VERSION --new-ledger",
        lambda p: p.begin_ledger(),
    ),
    "a file that is not of the release": (
        lambda p: (p.release / "notes.txt").write_text("mine"),
        "move them out of",
        lambda p: (p.release / "notes.txt").unlink(),
    ),
    "MLflow's database empty": (
        lambda p: (p.home / "mlflow.db").write_bytes(b""),
        "move it away",
        lambda p: (p.home / "mlflow.db").unlink(),
    ),
    "registered model's row deleted": (
        lambda p: p.sql("DELETE FROM registered_models"),
        "move it away",
        lambda p: (p.home / "mlflow.db").unlink(),
    ),
}


def test_an_undamaged_release_is_published(place: Place) -> None:
    """A cached step `publish` is used again if all that it left is there."""
    assert place.is_published()


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_each_damage_is_seen(damage: str, place: Place) -> None:
    """The step `publish` runs again if anything that it left is missing or changed."""
    DAMAGES[damage](place)
    assert not place.is_published()


@pytest.mark.slow
@pytest.mark.parametrize("damages", [*TOGETHER, *ALONE], ids=", ".join)
def test_publishing_again_restores_what_is_missing(damages: tuple[str, ...], place: Place) -> None:
    """The step `publish` restores what is missing or damaged."""
    for damage in damages:
        DAMAGES[damage](place)
    place.publish()
    assert place.is_published()
    assert ledger.champion(place.store) == place.version


@pytest.mark.slow
@pytest.mark.parametrize("damage", NAMED)
def test_the_remedy_for_what_is_not_restored_leads_out(damage: str, place: Place) -> None:
    """The damage is seen, the step fails, and after what its error advises the step makes everything whole."""
    inflict, remedy, advised = NAMED[damage]
    inflict(place)
    assert not place.is_published()
    with pytest.raises(DigitsError) as failure:
        place.publish()
    assert remedy in failure.value.remedy
    advised(place)
    place.publish()
    assert place.is_published()


def overwrite(file: Path) -> None:
    """Change one bit of a file, and set its time of modification back."""
    before = file.stat()
    flip(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: (p.home / "mlflow.db").unlink(),
        lambda p: p.sql("DELETE FROM model_versions"),
        lambda p: p.logged("manifest.json").unlink(),
        lambda p: overwrite(p.logged("model.onnx")),
    ],
)
def test_mlflow_is_asked_again_if_its_files_changed(damage: Callable[[Place], object], place: Place) -> None:
    """The state of MLflow's files that the last run recorded does not hide a later damage."""
    record_mlflow(place.settings, place.version, place.version)
    assert (place.home / "cache" / "mlflow").exists()
    assert place.is_published()
    damage(place)
    assert not place.is_published()


def test_mlflow_is_asked_again_if_a_database_behind_a_link_changed(place: Place, tmp_path: Path) -> None:
    """A database on another disk, to which the home has a link, is compared itself."""
    shutil.move(place.home / "mlflow.db", tmp_path / "disk.db")
    (place.home / "mlflow.db").symlink_to(tmp_path / "disk.db")
    record_mlflow(place.settings, place.version, place.version)
    assert (place.home / "cache" / "mlflow").exists()
    place.sql("DELETE FROM model_versions")
    assert not place.is_published()


def test_mlflow_is_asked_again_for_another_registered_model(place: Place) -> None:
    """A release that is not registered under the name of DIGITS_MLFLOW_MODEL is published again."""
    record_mlflow(place.settings, place.version, place.version)
    assert not is_published(dataclasses.replace(place.settings, mlflow_model="other"), place.published)
    assert place.is_published()


def test_mlflow_is_asked_again_for_another_release(place: Place) -> None:
    """The record of a run of another release, or of another store, does not stand for this one."""
    state = cached._mlflow_state(place.settings, place.version, place.version)
    elsewhere = dataclasses.replace(place.settings, store="s3://digits", minio_endpoint="127.0.0.1:1")
    assert cached._mlflow_state(elsewhere, place.version, place.version) != state
    other = another_release(place.store, place.version, seed=77)["version"]
    open_mlflow(place.settings).delete_run(manifest(place)["mlflow_run"])
    write_whole(place.home / "cache" / "mlflow", cached._mlflow_state(place.settings, place.version, other))
    assert not place.is_published()


def test_mlflow_is_always_asked_about_files_elsewhere(place: Place, tmp_path: Path) -> None:
    """The state of MLflow's files is not recorded if an experiment of another program has them in another folder."""
    shutil.copytree(place.home / "mlartifacts", tmp_path / "elsewhere")
    inside, outside = (folder.as_uri() for folder in (place.home / "mlartifacts", tmp_path / "elsewhere"))
    place.sql(f"UPDATE runs SET artifact_uri = replace(artifact_uri, '{inside}', '{outside}')")
    record_mlflow(place.settings, place.version, place.version)
    assert place.is_published()
    for file in (tmp_path / "elsewhere").rglob("manifest.json"):
        file.unlink()
    assert not place.is_published()


def test_mlflow_is_asked_again_if_the_champion_changed(place: Place) -> None:
    """After a promotion that did not reach MLflow, the aliases are set although MLflow's files are unchanged."""
    client = open_mlflow(place.settings)
    client.delete_registered_model_alias("digits", "champion")
    write_whole(
        place.home / "cache" / "mlflow", cached._mlflow_state(place.settings, "an earlier champion", place.version)
    )
    assert place.is_published()
    assert client.get_model_version_by_alias("digits", "champion").tags["version"] == place.version


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: open_mlflow(p.settings).delete_registered_model_alias("digits", "champion"),
        lambda p: open_mlflow(p.settings).delete_run(manifest(p)["mlflow_run"]),
    ],
)
def test_what_is_lost_while_a_run_ends_is_seen_by_the_next_run(damage: Callable[[Place], object], place: Place) -> None:
    """The state of MLflow's files is not recorded as good if something was lost after the run's own checks."""
    damage(place)
    record_mlflow(place.settings, place.version, place.version)
    if place.is_published():  # an alias is set again, and anything else is published again
        client = open_mlflow(place.settings)
        assert client.get_model_version_by_alias("digits", "champion").tags["version"] == place.version
    assert not (place.home / "cache" / "mlflow").exists()


def test_a_lost_alias_is_set_again(place: Place) -> None:
    """MLflow's alias for the champion is set again without publishing."""
    client = open_mlflow(place.settings)
    client.delete_registered_model_alias("digits", "champion")
    assert place.is_published()
    assert client.get_model_version_by_alias("digits", "champion").tags["version"] == place.version


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink, as_pipe, as_folder])
@pytest.mark.parametrize("artifact", ["file", "folder/a"])
def test_a_damaged_artifact_changes_the_fingerprint(
    damage: Callable[[Path], object], artifact: str, tmp_path: Path
) -> None:
    """A file, or a file in a folder, that is missing, changed or of another kind is seen."""
    (tmp_path / "folder").mkdir()
    for name in ("file", "folder/a", "folder/b"):
        (tmp_path / name).write_bytes(name.encode() * 100)
    paths = [str(tmp_path / name) for name in ("file", "folder")]
    before = fingerprint({"a": 1}, paths)
    assert fingerprint({"a": 1}, paths) == before != fingerprint({"a": 2}, paths)
    damage(tmp_path / artifact)
    with contextlib.suppress(OSError):
        assert fingerprint({"a": 1}, paths) != before


@pytest.mark.parametrize("damage", ["none", "block missing", "index missing"])
def test_a_prepared_set_whose_blocks_are_lost_is_prepared_again(tmp_path: Path, damage: str) -> None:
    """The result of `prepare` is used again only if the blocks that it wrote to the object store are there."""
    settings, images = (
        Settings(home=tmp_path / "home"),
        Dataset(np.zeros((5, 28, 28), np.uint8), np.arange(5).astype(np.uint8)),
    )
    stored = StoredBlocks(open_store(settings))
    part, _ = stored.add("a", images, images)
    Index((28, 28), (part,), tuple(stored.objects("a")[:1])).write(tmp_path / "train_set")
    images.save(tmp_path / "test_set")
    outputs, paths = {"prepared": {}}, [str(tmp_path / "train_set"), str(tmp_path / "test_set")]
    recorded = fingerprint(outputs, paths)
    if damage == "block missing":
        stored.store.delete(stored.objects("a")[0])
    elif damage == "index missing":
        (tmp_path / "train_set" / "index.json").unlink()
    assert is_usable(settings, outputs, paths, recorded) == (damage == "none")

"""A release is registered with its signature, and MLflow's aliases mirror the ledger."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from digits.errors import MissingError, UsageError
from digits.release import ledger, mlflow_log, mlflow_registry, releases
from digits.release.publish import publish_candidate
from digits.settings import Settings
from digits.store import open_store
from tests.helpers.support import Finished, another_release, open_mlflow

pytestmark = pytest.mark.filterwarnings("ignore")  # of MLflow and its libraries


def test_the_registered_model_has_a_signature(finished: Finished) -> None:
    """MLflow can load the registered version, which has the signature and the alias `champion`."""
    import mlflow

    client = open_mlflow(finished.settings)
    version = client.get_model_version_by_alias("digits", "champion")
    assert version.tags["version"] == finished.version
    info = mlflow.models.get_model_info("models:/digits@champion")
    assert info.signature.inputs.inputs[0].shape == (-1, 28, 28, 1)
    assert info.signature.outputs.inputs[0].shape == (-1, 10)


@pytest.mark.parametrize(("conflicts", "raised"), [(2, False), (9, True)])
def test_an_alias_that_another_run_sets_meanwhile_is_set_again(
    copied: Settings, finished: Finished, monkeypatch: pytest.MonkeyPatch, conflicts: int, raised: bool
) -> None:
    """A conflict between MLflow's read and its insert is retried a few times."""
    client = open_mlflow(copied)
    client.delete_registered_model_alias("digits", "champion")
    real, times = type(client).set_registered_model_alias, iter(range(conflicts))

    def conflicting(*arguments: object) -> None:
        if next(times, None) is not None:
            raise MlflowException("(sqlite3.IntegrityError) UNIQUE constraint failed: registered_model_aliases.alias")
        real(*arguments)

    monkeypatch.setattr(type(client), "set_registered_model_alias", conflicting)
    with pytest.raises(MissingError, match="UNIQUE") if raised else contextlib.nullcontext():
        mlflow_registry.mirror_ledger(copied, open_store(copied))
        assert client.get_model_version_by_alias("digits", "champion").tags["version"] == finished.version


def test_a_registered_model_of_another_project_is_left_alone(finished: Finished, tmp_path: Path) -> None:
    """A registered model of our name without our tag keeps its versions and aliases; another name is a way out."""
    settings = finished.empty(tmp_path / "home")
    client = open_mlflow(settings)
    client.create_registered_model("digits")
    theirs = client.create_model_version("digits", f"file://{tmp_path}/theirs").version
    for alias in ("champion", "previous"):
        client.set_registered_model_alias("digits", alias, theirs)
    before = client.get_registered_model("digits").aliases
    store, candidate = open_store(settings), finished.candidate()
    with pytest.raises(UsageError, match="belongs to another project") as refused:
        publish_candidate(settings, store, candidate, "digits-tests")
    assert "DIGITS_MLFLOW_MODEL" in refused.value.remedy
    assert store.keys() == []
    with pytest.raises(UsageError, match="belongs to another project"):
        mlflow_registry.mirror_ledger(settings, store)
    own = dataclasses.replace(settings, mlflow_model="our-digits")
    publish_candidate(own, store, candidate, "digits-tests")
    assert mlflow_registry.find_registered(own, finished.version)
    assert client.get_registered_model("digits").aliases == before
    assert len(client.search_model_versions("name = 'digits'")) == 1


def test_an_alias_of_another_store_stays(copied: Settings, finished: Finished, tmp_path: Path) -> None:
    """Two installations with one MLflow do not move each other's aliases."""
    client = open_mlflow(copied)
    run = mlflow_log.start_run(copied, "other", "other", {})
    theirs = client.create_model_version("digits", "file:///theirs", run, tags={"version": "0" * 12})
    client.set_registered_model_alias("digits", "champion", theirs.version)
    mlflow_registry.mirror_ledger(copied, open_store(copied))
    found = client.get_model_version_by_alias("digits", "champion")
    assert found.version == theirs.version


def test_an_alias_of_a_release_that_was_lost_is_moved(copied: Settings, finished: Finished) -> None:
    """A release that the ledger names and the store has lost is not said to be of another store."""
    store, client = open_store(copied), open_mlflow(copied)
    lost = another_release(store, finished.version)["version"]
    run = mlflow_log.start_run(copied, "lost", "lost", {})
    version = client.create_model_version("digits", "file:///lost", run, tags={"version": lost})
    client.set_registered_model_alias("digits", "champion", version.version)
    ledger.promote(store, lost, "better")
    ledger.rollback(store)
    for key in store.keys(releases.release_prefix(store, lost)):
        store.delete(key)
    mlflow_registry.mirror_ledger(copied, store)
    assert client.get_model_version_by_alias("digits", "champion").tags["version"] == finished.version


def test_registering_does_not_end_the_run(copied: Settings, finished: Finished) -> None:
    """The run ends with the pipeline's run, not before the gate."""
    run = mlflow_log.start_run(copied, "digits-tests", "a run", {})
    manifest = releases.load(finished.store, finished.version)
    mlflow_registry.register(copied, run, finished.folder / "model" / "model.onnx", manifest)
    assert open_mlflow(copied).get_run(run).info.status == "RUNNING"


def test_a_version_is_found_only_with_all_its_tags(
    copied: Settings, finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a run registers a release, another run that looks for it finds it complete or not at all."""
    second = another_release(open_store(copied), finished.version)
    releases.download(open_store(copied), second["version"], tmp_path / "second")
    run, client = mlflow_log.start_run(copied, "digits-tests", "a run", {}), open_mlflow(copied)
    real, seen = type(client).set_model_version_tag, list[bool]()

    def observed(*arguments: object) -> None:
        real(*arguments)
        found = mlflow_registry.registered_versions(client, copied, second["version"])
        seen.extend(set(mlflow_registry.VERSION_TAGS) <= set(version.tags) for version in found)

    monkeypatch.setattr(type(client), "set_model_version_tag", observed)
    mlflow_registry.register(copied, run, tmp_path / "second" / "model.onnx", second)
    assert seen == [True]


def test_the_aliases_mirror_the_ledger(copied: Settings, finished: Finished, tmp_path: Path) -> None:
    """A promotion moves both aliases, a rollback moves them back, and `previous` is deleted if there is none."""
    store, client = open_store(copied), open_mlflow(copied)

    def aliased(alias: str) -> str:
        try:
            return str(client.get_model_version_by_alias("digits", alias).tags["version"])
        except MlflowException:
            return ""

    second = another_release(store, finished.version)
    releases.download(store, second["version"], tmp_path / "second")
    run = mlflow_log.start_run(copied, "aliases", "second", {})
    mlflow_registry.register(copied, run, tmp_path / "second" / "model.onnx", second)
    ledger.promote(store, second["version"], "better")
    mlflow_registry.mirror_ledger(copied, store)
    assert (aliased("champion"), aliased("previous")) == (second["version"], finished.version)
    ledger.rollback(store)
    mlflow_registry.mirror_ledger(copied, store)
    assert (aliased("champion"), aliased("previous")) == (finished.version, "")

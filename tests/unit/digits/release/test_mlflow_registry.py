"""A release is registered with its signature, and MLflow's aliases mirror the ledger."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from digits.errors import MissingError
from digits.release import ledger, mlflow_log, mlflow_registry, releases
from digits.settings import Settings
from digits.store import open_store
from tests.helpers.support import Finished, another_release, open_mlflow

pytestmark = pytest.mark.filterwarnings("ignore")  # of MLflow and its libraries


@pytest.fixture
def copied(finished: Finished, tmp_path: Path) -> Settings:
    """A copy of a finished installation, to be changed."""
    return finished.copy(tmp_path / "home")


def test_the_registered_model_has_a_signature(finished: Finished) -> None:
    """MLflow can load the registered version, which has the signature and the alias `champion`."""
    import mlflow

    client = open_mlflow(finished.settings)
    version = client.get_model_version_by_alias(mlflow_registry.MODEL, "champion")
    assert version.tags["version"] == finished.version
    info = mlflow.models.get_model_info(f"models:/{mlflow_registry.MODEL}@champion")
    assert info.signature.inputs.inputs[0].shape == (-1, 28, 28, 1)
    assert info.signature.outputs.inputs[0].shape == (-1, 10)


@pytest.mark.parametrize(("conflicts", "raised"), [(2, False), (9, True)])
def test_an_alias_that_another_run_sets_meanwhile_is_set_again(
    copied: Settings, finished: Finished, monkeypatch: pytest.MonkeyPatch, conflicts: int, raised: bool
) -> None:
    """A conflict between MLflow's read and its insert is retried a few times."""
    client = open_mlflow(copied)
    client.delete_registered_model_alias(mlflow_registry.MODEL, "champion")
    real, times = type(client).set_registered_model_alias, iter(range(conflicts))

    def conflicting(*arguments: object) -> None:
        if next(times, None) is not None:
            raise MlflowException("(sqlite3.IntegrityError) UNIQUE constraint failed: registered_model_aliases.alias")
        real(*arguments)

    monkeypatch.setattr(type(client), "set_registered_model_alias", conflicting)
    with pytest.raises(MissingError, match="UNIQUE") if raised else contextlib.nullcontext():
        mlflow_registry.mirror_ledger(copied, open_store(copied))
        assert client.get_model_version_by_alias(mlflow_registry.MODEL, "champion").tags["version"] == finished.version


def test_the_aliases_mirror_the_ledger(copied: Settings, finished: Finished, tmp_path: Path) -> None:
    """A promotion moves both aliases, a rollback moves them back, and `previous` is deleted if there is none."""
    store, client = open_store(copied), open_mlflow(copied)

    def aliased(alias: str) -> str:
        try:
            return str(client.get_model_version_by_alias(mlflow_registry.MODEL, alias).tags["version"])
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

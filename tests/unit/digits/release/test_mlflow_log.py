"""MLflow holds what a run made, and its aliases mirror the ledger."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from digits import events
from digits.errors import MissingError
from digits.release import ledger, mlflow_log, releases
from digits.settings import Settings
from digits.store import open_store
from tests.helpers.support import ROOT, Finished, another_release, child_environment, free_port

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's, of the libraries below it


@pytest.fixture
def copied(finished: Finished, tmp_path: Path) -> Settings:
    """An installation with the finished run's store and database, to be changed."""
    return finished.copy(tmp_path / "home")


def test_a_run_holds_everything(finished: Finished) -> None:
    """Parameters, per-epoch metrics, test metrics, tags and files of the run are in the database."""
    client = mlflow_log.client(finished.settings)
    published = finished.facts["published"]
    run = client.get_run(published["mlflow_run"])
    assert run.data.params["optimizer"] == "adam"
    assert run.data.metrics["test_accuracy"] == pytest.approx(finished.facts["accuracy"])
    assert {"test_precision_0", "test_recall_9", "loss", "val_accuracy"} <= set(run.data.metrics)
    assert [point.step for point in client.get_metric_history(run.info.run_id, "val_accuracy")] == [1]
    assert run.data.tags["release_digest"] == published["digest"]
    names = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"report.html", "confusion_matrix.json", "architecture.json", "manifest.json"} <= names
    experiment = client.get_experiment(run.info.experiment_id)
    assert experiment.artifact_location == (finished.settings.home / "mlartifacts").as_uri()


def test_the_registered_model_has_a_signature(finished: Finished) -> None:
    """The registered version can be loaded by MLflow, says its signature, and bears the aliases."""
    import mlflow

    client = mlflow_log.client(finished.settings)
    version = client.get_model_version_by_alias(mlflow_log.MODEL, "champion")
    assert version.tags["version"] == finished.version
    info = mlflow.models.get_model_info(f"models:/{mlflow_log.MODEL}@champion")
    assert info.signature.inputs.inputs[0].shape == (-1, 28, 28, 1)
    assert info.signature.outputs.inputs[0].shape == (-1, 10)


@pytest.mark.parametrize(("met", "raised"), [(2, False), (9, True)])
def test_an_alias_that_another_run_sets_meanwhile(
    copied: Settings, finished: Finished, monkeypatch: pytest.MonkeyPatch, met: int, raised: bool
) -> None:
    """MLflow's race between looking and writing is met by trying again, a few times."""
    client = mlflow_log.client(copied)
    client.delete_registered_model_alias(mlflow_log.MODEL, "champion")
    real, times = type(client).set_registered_model_alias, iter(range(met))

    def late(*given: object) -> None:
        if next(times, None) is not None:
            raise MlflowException("(sqlite3.IntegrityError) UNIQUE constraint failed: registered_model_aliases.alias")
        real(*given)

    monkeypatch.setattr(type(client), "set_registered_model_alias", late)
    with pytest.raises(MissingError, match="UNIQUE") if raised else contextlib.nullcontext():
        mlflow_log.mirror(copied, open_store(copied))
        assert client.get_model_version_by_alias(mlflow_log.MODEL, "champion").tags["version"] == finished.version


def test_aliases_mirror_the_ledger(copied: Settings, finished: Finished, tmp_path: Path) -> None:
    """A promotion moves both aliases, a rollback moves them back, and `previous` goes where there is none."""
    store, client = open_store(copied), mlflow_log.client(copied)

    def aliased(alias: str) -> str:
        try:
            return str(client.get_model_version_by_alias(mlflow_log.MODEL, alias).tags["version"])
        except MlflowException:
            return ""

    second = another_release(store, finished.version)
    releases.download(store, second["version"], tmp_path / "second")
    run = mlflow_log.start_run(copied, "aliases", "second", {})
    mlflow_log.register(copied, run, tmp_path / "second" / "model.onnx", second)
    ledger.promote(store, second["version"], "better")
    mlflow_log.mirror(copied, store)
    assert (aliased("champion"), aliased("previous")) == (second["version"], finished.version)
    ledger.rollback(store)
    mlflow_log.mirror(copied, store)
    assert (aliased("champion"), aliased("previous")) == (finished.version, "")


def test_a_deleted_experiment_is_restored(copied: Settings) -> None:
    """A user who deleted the experiment in MLflow's page can run again."""
    client = mlflow_log.client(copied)
    client.delete_experiment(client.get_experiment_by_name("digits-tests").experiment_id)
    run = mlflow_log.start_run(copied, "digits-tests", "again", {"a": "b"})
    assert client.get_run(run).data.tags["a"] == "b"
    mlflow_log.end_run(copied, run, mlflow_log.KILLED)
    assert client.get_run(run).info.status == "KILLED"


def test_a_database_of_another_version_is_refused(copied: Settings) -> None:
    """The error says what is wrong and which command mends it; the database is not touched."""
    database = copied.home / "mlflow.db"
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0a8213491aaa'")
    connection.close()
    before = database.read_bytes()
    with pytest.raises(MissingError, match="made by another version of MLflow") as refused:
        mlflow_log.start_run(copied, "x", "x", {})
    assert "mlflow db upgrade" in str(refused.value)
    assert str(database) in str(refused.value)
    assert database.read_bytes() == before


MAKING = """
import sys
from pathlib import Path
from digits.release import mlflow_log
from digits.settings import Settings
mlflow_log.check(Settings(home=Path(sys.argv[1])))
"""


def test_a_program_killed_while_it_makes_the_database_leaves_none(tmp_path: Path) -> None:
    """MLflow never recovers from tables half made, so there is a whole database or none."""
    settings = Settings(home=tmp_path / "home")
    command = [sys.executable, "-c", MAKING, str(settings.home)]
    program = subprocess.Popen(command, env=child_environment(settings), cwd=ROOT)
    deadline = time.monotonic() + 60
    while not any(part.stat().st_size for part in settings.home.glob(".mlflow.db.*.part")):
        assert time.monotonic() < deadline
        assert program.poll() is None
        time.sleep(0.001)
    program.kill()
    program.wait()
    assert not (settings.home / "mlflow.db").exists()
    mlflow_log.check(settings)
    assert (settings.home / "mlflow.db").is_file()


def test_a_file_that_is_no_database_is_refused(copied: Settings) -> None:
    """Something else under the database's name is an error that names the place."""
    (copied.home / "mlflow.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(MissingError, match="cannot be used") as refused:
        mlflow_log.start_run(copied, "x", "x", {})
    assert str(copied.home) in str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    "ask", [mlflow_log.check, lambda settings: mlflow_log.link(settings, "r")], ids=["check", "link"]
)
def test_a_silent_server_is_refused_without_its_password(
    ask: Callable[[Settings], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that does not answer is named; its password is in no message, no traceback and no event."""
    monkeypatch.setenv(events.VARIABLE, str(tmp_path / "events.jsonl"))
    settings = Settings(home=tmp_path, tracking_uri=f"http://user:canary@127.0.0.1:{free_port()}")
    with pytest.raises(MissingError, match="MLFLOW_TRACKING_URI") as refused, events.reported("publish"):
        ask(settings)
    (told,) = events.EventLog(tmp_path / "events.jsonl").read_new()
    printed = "".join(traceback.format_exception(refused.value))  # as kfp does into the step's log
    assert ("127.0.0.1" in printed, "127.0.0.1" in told["cause"], told["exit_code"]) == (True, True, 3)
    assert "canary" not in printed
    assert "canary" not in (tmp_path / "events.jsonl").read_text()


@pytest.mark.slow
def test_a_server_is_used_without_its_password_being_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """MLflow's own server keeps a run; neither what is printed meanwhile nor the way to that run has its password."""
    port, command = free_port(), [sys.executable, "-m", "mlflow", "server", "--workers=1", "--host=127.0.0.1"]
    command += [f"--port={port}", f"--backend-store-uri=sqlite:///{tmp_path}/server.db"]
    settings = Settings(home=tmp_path / "home", tracking_uri=f"http://user:canary@127.0.0.1:{port}/")
    with (tmp_path / "server.log").open("wb") as log:
        environment = child_environment(settings)
        server = subprocess.Popen(
            command, env=environment, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 120
        while "startup complete" not in (tmp_path / "server.log").read_text():
            assert time.monotonic() < deadline
            assert server.poll() is None
            time.sleep(0.2)
        run = mlflow_log.start_run(settings, "kept", "run", {})
        mlflow_log.end_run(settings, run, mlflow_log.FINISHED)
        link = mlflow_log.link(settings, run)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
    assert link.startswith(f"http://<SECRET>@127.0.0.1:{port}/#/experiments/")
    assert link.endswith(f"/runs/{run}")
    assert [part for part in capfd.readouterr() if "canary" in part] == []


def test_a_database_is_linked_by_a_command(finished: Finished) -> None:
    """The way to a run that a report shows is, for SQLite, the command that shows MLflow's pages."""
    assert mlflow_log.link(finished.settings, "r").startswith("mlflow ui --backend-store-uri sqlite:////")


def test_the_manifest_is_logged_as_published(finished: Finished, tmp_path: Path) -> None:
    """MLflow's copy of the manifest is the release's own."""
    client = mlflow_log.client(finished.settings)
    path = client.download_artifacts(finished.facts["published"]["mlflow_run"], "manifest.json", str(tmp_path))
    assert json.loads(Path(path).read_text()) == releases.load(finished.store, finished.version)
    shutil.rmtree(tmp_path)


def test_the_run_of_a_publication(copied: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that publishing makes for itself is ended, as it ended; one that it was given (Kubeflow's) is left open."""
    client = mlflow_log.client(copied)
    with mlflow_log.run_of(copied, "mine", "release") as made:
        assert client.get_run(made).info.status == "RUNNING"
    with pytest.raises(ZeroDivisionError), mlflow_log.run_of(copied, "mine", "release") as failed:
        _ = 1 / 0
    given = mlflow_log.start_run(copied, "mine", "kubeflow's", {})
    monkeypatch.setenv(mlflow_log.RUN_VARIABLE, given)
    with mlflow_log.run_of(copied, "mine", "release") as used:
        assert used == given
    assert [client.get_run(run).info.status for run in (made, failed, given)] == ["FINISHED", "FAILED", "RUNNING"]

"""An MLflow run holds everything about a pipeline run."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from digits.errors import UsageError
from digits.release import mlflow_check, mlflow_log, releases
from digits.settings import Settings
from tests.helpers.support import Finished, open_mlflow

pytestmark = pytest.mark.filterwarnings("ignore")  # of MLflow and its libraries


def test_a_run_holds_everything(finished: Finished) -> None:
    """The database holds parameters, metrics of each epoch, test metrics, tags and files of the run."""
    client = open_mlflow(finished.settings)
    published = finished.published
    run = client.get_run(published.mlflow_run)
    assert run.data.params["optimizer"] == "adam"
    assert run.data.metrics["test_accuracy"] == pytest.approx(finished.published.accuracy)
    assert {"test_precision_0", "test_recall_9", "loss", "val_accuracy"} <= set(run.data.metrics)
    assert [point.step for point in client.get_metric_history(run.info.run_id, "val_accuracy")] == [1]
    assert run.data.tags["release_digest"] == published.digest
    names = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"report.html", "confusion_matrix.json", "architecture.json", "manifest.json"} <= names
    experiment = client.get_experiment(run.info.experiment_id)
    assert experiment.artifact_location == (finished.settings.home / "mlartifacts").as_uri()


def test_a_deleted_experiment_is_restored(copied: Settings) -> None:
    """A run can start in an experiment that was deleted on MLflow's page."""
    client = open_mlflow(copied)
    client.delete_experiment(client.get_experiment_by_name("digits-tests").experiment_id)
    run = mlflow_log.start_run(copied, "digits-tests", "again", {"a": "b"})
    assert client.get_run(run).data.tags["a"] == "b"
    mlflow_log.end_run(copied, run, mlflow_log.KILLED)
    assert client.get_run(run).info.status == "KILLED"


def test_an_experiment_in_a_folder_that_no_container_has_is_refused(copied: Settings, tmp_path: Path) -> None:
    """A step in a container would lose the files of an experiment that another program made elsewhere."""
    client, link = open_mlflow(copied), tmp_path / "link"
    number = client.create_experiment("theirs", artifact_location=(tmp_path / "theirs").as_uri())
    link.symlink_to(tmp_path)
    with pytest.raises(
        UsageError, match=f"experiment 'theirs' would be in {tmp_path / 'theirs'}, which the containers"
    ):
        mlflow_log.start_run(copied, "theirs", "run", {}, folders=[copied.home])
    assert client.search_runs([number]) == []
    for folders in ([copied.home, link], None):
        assert mlflow_log.start_run(copied, "theirs", "run", {}, folders=folders)


def test_an_experiment_in_a_folder_that_cannot_be_written_is_refused(copied: Settings, tmp_path: Path) -> None:
    """An experiment of another program may have its files elsewhere; no run starts that could not log them."""
    (tmp_path / "file").write_text("")
    client = open_mlflow(copied)
    number = client.create_experiment("theirs", artifact_location=(tmp_path / "file").as_uri())
    with pytest.raises(
        UsageError, match=f"experiment 'theirs' would be in {tmp_path / 'file'}, but .* is not a folder"
    ):
        mlflow_log.start_run(copied, "theirs", "r", {})
    assert not client.search_runs([number])


def test_a_home_that_was_copied_or_moved_has_its_files_in_mlflow(finished: Finished, tmp_path: Path) -> None:
    """MLflow keeps absolute addresses; a copy of a home must find its files and must not write into the other home."""
    before = sorted((finished.settings.home / "mlartifacts").rglob("*"))
    settings = finished.copy(tmp_path / "copy")
    run = mlflow_log.start_run(settings, "digits-tests", "again", {})
    mlflow_log.log_decision(settings, run, promoted=False, why="", report="<p>")
    assert (settings.home / "mlartifacts" / run / "artifacts" / "report.html").exists()
    assert sorted((finished.settings.home / "mlartifacts").rglob("*")) == before

    moved = Settings(home=tmp_path / "a_folder")  # _ is a pattern in SQL
    settings.home.rename(moved.home)
    assert "MLflow run" in mlflow_check.check_logged(moved, releases.load(finished.store, finished.version))
    mlflow_log.start_run(moved, "digits-tests", "moved", {})
    assert not settings.home.exists()


def test_the_addresses_in_a_shared_database_stay(tmp_path: Path) -> None:
    """If a home's database is a link to that of another home, as after cp -a, the other one keeps its files."""
    first, second = (Settings(home=tmp_path / name) for name in ("first", "second"))
    mlflow_log.start_run(first, "digits-tests", "first", {})
    (first.home / "mlartifacts").mkdir()
    second.home.mkdir()
    (second.home / "mlflow.db").symlink_to(first.home / "mlflow.db")
    location = open_mlflow(second).get_experiment_by_name("digits-tests").artifact_location
    assert location == (first.home / "mlartifacts").as_uri()
    first.home.rename(tmp_path / "moved")
    (second.home / "mlflow.db").unlink()
    (second.home / "mlflow.db").symlink_to(tmp_path / "moved" / "mlflow.db")
    location = open_mlflow(second).get_experiment_by_name("digits-tests").artifact_location
    assert location == (second.home / "mlartifacts").as_uri()


def test_a_database_without_the_experiment_default_is_used(tmp_path: Path) -> None:
    """MLflow's own experiment, which digits does not use, may have been deleted for good (`mlflow gc`)."""
    settings = Settings(home=tmp_path)
    assert mlflow_log.start_run(settings, "digits-tests", "first", {})
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        connection.execute("DELETE FROM experiments WHERE experiment_id = 0")
    assert mlflow_log.start_run(settings, "digits-tests", "second", {})


def test_the_link_to_a_database_is_a_command(finished: Finished) -> None:
    """For SQLite, the link in a report is the command that starts MLflow's pages."""
    assert mlflow_log.link(finished.settings, "r").startswith("mlflow ui --backend-store-uri sqlite:////")


def test_the_manifest_is_logged_as_published(finished: Finished, tmp_path: Path) -> None:
    """MLflow's copy of the manifest is the release's own."""
    client = open_mlflow(finished.settings)
    path = client.download_artifacts(finished.published.mlflow_run, "manifest.json", str(tmp_path))
    assert json.loads(Path(path).read_text()) == releases.load(finished.store, finished.version)
    shutil.rmtree(tmp_path)


def test_a_run_is_ended_by_its_creator(copied: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run created for a publication ends with its status; the one in MLFLOW_RUN_ID (Kubeflow's) stays open."""
    client = open_mlflow(copied)
    with mlflow_log.current_run(copied, "mine", "release") as created:
        assert client.get_run(created).info.status == "RUNNING"
    with pytest.raises(ZeroDivisionError), mlflow_log.current_run(copied, "mine", "release") as failed:
        _ = 1 / 0
    existing = mlflow_log.start_run(copied, "mine", "kubeflow's", {})
    monkeypatch.setenv(mlflow_log.RUN_VARIABLE, existing)
    with mlflow_log.current_run(copied, "mine", "release") as current:
        assert current == existing
    assert [client.get_run(run).info.status for run in (created, failed, existing)] == ["FINISHED", "FAILED", "RUNNING"]


@pytest.mark.parametrize(("scheme", "experiment"), [("sqlite", "Default"), ("sqlite+pysqlite", "mine")])
def test_no_files_are_written_to_the_working_directory(
    scheme: str, experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's own experiment, and those of each kind of database, have their files in the home."""
    monkeypatch.chdir(tmp_path)
    settings = Settings(home=tmp_path / "home", tracking_uri=f"{scheme}:///{tmp_path}/mlflow.db")
    run = open_mlflow(settings).get_run(mlflow_log.start_run(settings, experiment, "run", {}))
    assert run.info.artifact_uri.startswith((settings.home / "mlartifacts").as_uri())


def test_an_experiment_whose_files_a_server_keeps_is_refused(settings: Settings) -> None:
    """One that was made on the page of `mlflow ui` cannot be written without that server."""
    open_mlflow(settings).create_experiment("of the page", artifact_location="mlflow-artifacts:/7")
    with pytest.raises(UsageError, match="'of the page' are kept by a server"):
        mlflow_log.start_run(settings, "of the page", "run", {})


def test_the_digest_is_the_same_after_a_database() -> None:
    """A database returns 0.0 for a metric of -0.0; the digest of what was logged is that of what is read."""
    from mlflow.entities import Metric

    logged, read = ([Metric("test_loss", value, 0, 0), Metric("loss", 0.25, 0, 1)] for value in (-0.0, 0.0))
    assert mlflow_log.digest_of(logged, b"[]") == mlflow_log.digest_of(read, b"[]")

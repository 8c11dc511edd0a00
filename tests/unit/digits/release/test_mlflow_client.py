"""MLflow's database is created whole, and a server or database that cannot be used is named."""

from __future__ import annotations

import dataclasses
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from digits import events
from digits.errors import MissingError
from digits.release import mlflow_check, mlflow_client, mlflow_log, mlflow_registry, releases
from digits.release.mlflow_client import connect
from digits.settings import Settings
from digits.store import open_store
from tests.helpers.support import ROOT, Finished, child_environment, free_port, open_mlflow

pytestmark = pytest.mark.filterwarnings("ignore")  # of MLflow and its libraries


def test_a_database_of_another_version_is_refused(copied: Settings) -> None:
    """The error names the command that upgrades the database, which is not changed."""
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


def test_a_link_whose_file_is_missing_is_followed(tmp_path: Path) -> None:
    """The database is created where the link points to, also if the folder is missing; the link stays."""
    settings = Settings(home=tmp_path / "home")
    settings.home.mkdir()
    link, target = settings.home / "mlflow.db", tmp_path / "disk" / "of" / "mlflow.db"
    link.symlink_to(target)
    mlflow_client._create_database(link, mlflow_client.artifacts_address(settings))
    assert link.is_symlink()
    assert target.stat().st_size


CREATE = """
import sys
from pathlib import Path
from digits.release import mlflow_client
from digits.settings import Settings
with mlflow_client.connect(Settings(home=Path(sys.argv[1])), create=True):
    pass
"""


def test_a_process_killed_while_it_creates_the_database_leaves_none(tmp_path: Path) -> None:
    """MLflow cannot use a database with half of its tables, so there is a whole one or none."""
    settings = Settings(home=tmp_path / "home")
    command = [sys.executable, "-c", CREATE, str(settings.home)]
    program = subprocess.Popen(command, env=child_environment(settings), cwd=ROOT)
    deadline = time.monotonic() + 60
    while not any(part.stat().st_size for part in settings.home.glob(".mlflow.db.*.part")):
        assert time.monotonic() < deadline
        assert program.poll() is None
        time.sleep(0.001)
    program.kill()
    program.wait()
    assert not (settings.home / "mlflow.db").exists()
    open_mlflow(settings)
    assert (settings.home / "mlflow.db").is_file()


@pytest.mark.parametrize(
    ("address", "folder"),
    [
        ("file:///a%20b", "/a b"),
        ("/a%20b", "/a%20b"),
        ("mlflow-artifacts:/7", ""),
        ("s3://bucket/a", ""),
        ("", ""),  # of another server than MLflow
        ("~", ""),
    ],
)
def test_the_folders_of_an_experiment_are_those_of_this_machine(address: str, folder: str) -> None:
    """A server may answer with any text; only an absolute path is a folder that MLflow's client writes into."""
    assert mlflow_client.artifact_folders(address) == ((Path(folder), Path(folder, "models")) if folder else ())


def test_only_what_logs_creates_the_database(finished: Finished, tmp_path: Path) -> None:
    """A mistyped address is named by what reads, and no database is created there; there is no alias to set."""
    address = f"sqlite:///{tmp_path / 'typo' / 'mlflow.db'}"
    settings = dataclasses.replace(finished.settings, tracking_uri=address)
    manifest = releases.load(finished.store, finished.version)
    reads: list[Callable[[], object]] = [
        lambda: mlflow_client.check_connection(settings),
        lambda: mlflow_check.check_logged(settings, manifest),
        lambda: mlflow_check.logged_manifest(settings, finished.version, manifest["mlflow_run"]),
        lambda: mlflow_registry.check_model(settings),
    ]
    for read in reads:
        with pytest.raises(MissingError, match=f"there is no MLflow database {tmp_path / 'typo' / 'mlflow.db'}"):
            read()
    assert mlflow_registry.find_registered(settings, finished.version) == ""
    assert not mlflow_registry.mirror_ledger(settings, finished.store)
    assert not list(tmp_path.iterdir())


def test_a_new_database_is_then_written_safely(settings: Settings) -> None:
    """Only the creation does not wait for the disk after each statement; what is recorded later does."""
    open_mlflow(settings)
    with create_engine(f"sqlite:///{settings.home}/mlflow.db").connect() as connection:
        full = 2
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == full


def test_a_file_that_is_not_a_database_is_refused(copied: Settings) -> None:
    """Another file under the database's name is an error that names the place."""
    (copied.home / "mlflow.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(MissingError, match="cannot be used") as refused:
        mlflow_log.start_run(copied, "x", "x", {})
    assert str(copied.home) in str(refused.value)
    assert "move it away" in (refused.value.remedy or "")


def test_a_full_temporary_folder_is_named(
    copied: Settings, finished: Finished, full_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If MLflow cannot copy a file to TMPDIR, neither MLflow nor the release is said to be damaged."""
    monkeypatch.setattr(tempfile, "tempdir", str(full_disk))
    manifest = releases.load(open_store(copied), finished.version)
    with pytest.raises(MissingError, match=f"no space is left .*{full_disk}"):
        mlflow_check.check_logged(copied, manifest)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_refused_without_retries(make: Callable[[Path], object], tmp_path: Path) -> None:
    """A folder or a named pipe in the place of the database is named, and MLflow does not try it for minutes."""
    make(tmp_path / "mlflow.db")
    with pytest.raises(MissingError, match="expected a file") as refused:
        mlflow_client.check_connection(Settings(home=tmp_path))
    assert "move it away" in (refused.value.remedy or "")


@pytest.mark.slow
@pytest.mark.parametrize(
    "request_", [mlflow_client.check_connection, lambda settings: mlflow_log.link(settings, "r")], ids=["check", "link"]
)
def test_the_password_of_a_silent_server_is_not_shown(
    request_: Callable[[Settings], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names a server that does not answer; no message, traceback or event holds its password."""
    monkeypatch.setenv(events.VARIABLE, str(tmp_path / "events.jsonl"))
    settings = Settings(home=tmp_path, tracking_uri=f"http://user:canary@127.0.0.1:{free_port()}")
    with pytest.raises(MissingError, match="MLFLOW_TRACKING_URI") as refused, events.reported("publish"):
        request_(settings)
    event = events.EventLog(tmp_path / "events.jsonl").read_new()[-1]
    printed = "".join(traceback.format_exception(refused.value))  # as kfp does into the step's log
    assert ("127.0.0.1" in printed, "127.0.0.1" in event["cause"], event["exit_code"]) == (True, True, 3)
    assert "canary" not in printed
    assert "canary" not in (tmp_path / "events.jsonl").read_text()


def test_the_cause_of_a_failed_request_is_named() -> None:
    """The message has what urllib3 names as the cause, at the end of a line that is too long to be shown."""
    line = "HTTPSConnectionPool: " + "x" * 300 + " (Caused by SSLError('certificate has expired'))"
    assert "certificate has expired" in mlflow_client.first_line(OSError(line))


def test_the_password_of_a_server_is_not_printed(
    copied: Settings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """MLflow's own server stores a run; neither the output nor the link to the run holds the password."""
    from mlflow.server import app, handlers  # here, because each worker of `pytest -n` imports this module
    from werkzeug.serving import make_server

    database = f"sqlite:///{copied.home}/mlflow.db"
    handlers.initialize_backend_stores(database, database, str(tmp_path))
    with make_server("127.0.0.1", 0, app) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = Settings(home=tmp_path, tracking_uri=f"http://user:canary@127.0.0.1:{server.port}/")
        run = mlflow_log.start_run(settings, "kept", "run", {})
        mlflow_log.end_run(settings, run, mlflow_log.FINISHED)
        link = mlflow_log.link(settings, run)
        server.shutdown()
    assert link.startswith(f"http://<SECRET>@127.0.0.1:{server.port}/#/experiments/")
    assert link.endswith(f"/runs/{run}")
    assert [part for part in capfd.readouterr() if "canary" in part] == []


class _MlflowTwo(BaseHTTPRequestHandler):
    """A server that has MLflow's experiments, but not the models of MLflow 3, which have records of their own."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        found = self.path.endswith("/experiments/search")
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(b"{}" if found else b"<!doctype html>")


def test_a_server_before_mlflow_3_is_named(tmp_path: Path) -> None:
    """The check of the connection refuses an older server, which could not store a model, and states the version."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _MlflowTwo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = Settings(home=tmp_path, tracking_uri=f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(MissingError, match="is not MLflow 3"):
            mlflow_client.check_connection(settings)
        server.shutdown()


def test_the_registry_is_that_of_the_settings(copied: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are registered in the settings' MLflow, whatever registry the environment names."""
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"http://127.0.0.1:{free_port()}")
    with connect(copied) as client:
        assert [model.name for model in client.search_registered_models()] == ["digits"]


def test_a_run_that_was_deleted_meanwhile_is_named(settings: Settings) -> None:
    """The remedy is to resume, which makes another; the database is not said to be damaged."""
    run = mlflow_log.start_run(settings, "x", "x", {})
    with connect(settings) as client:
        client.delete_run(run)
    for deleted in (run, "0" * 32):
        with pytest.raises(MissingError, match="was deleted meanwhile") as refused:
            mlflow_log.name_release(settings, deleted, "v", "d")
        assert refused.value.remedy.startswith("digits run --resume")


def test_a_lack_of_memory_is_not_blamed_on_mlflow(settings: Settings) -> None:
    """The step reports it as what it is."""
    with pytest.raises(MemoryError), connect(settings, create=True):
        raise MemoryError

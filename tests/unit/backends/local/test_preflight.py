"""A request that would make a later step fail is refused before a run starts, without a training."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from backends.base import Request
from backends.local import preflight
from backends.process.backend import ProcessBackend
from digits import homes
from digits.errors import DigitsError, MissingError, ReleaseError
from digits.settings import Settings
from digits.store import open_store
from tests.helpers.kubernetes_api import Quiet, kubernetes_api


@pytest.mark.parametrize(
    ("values", "parameters", "named"),
    [
        ({}, {"epoch": 3}, "expected parameters of epochs, .*got epoch"),
        ({}, {"epochs": -1}, "epochs"),
        ({}, {"epochs": "many"}, "types of their defaults"),
        ({}, {"optimizer": "ftrl"}, "optimizer: expected one of"),
        ({}, {"preset": "slow"}, "preset: expected one of"),
        ({}, {"learning_rate": float("nan")}, "learning_rate"),
        ({}, {"min_accuracy": float("nan")}, "min_accuracy"),
        ({}, {"min_accuracy": 95}, "min_accuracy"),
        ({}, {"seed": 2**31}, "seed"),
        ({}, {"dataset": "cifar"}, "expected a data set of"),
        ({}, {"experiment": " "}, "experiment"),
        ({}, {"experiment": "x" * 251}, "experiment"),
        ({}, {"experiment": "a\nb"}, "experiment"),
        ({"deployer": "nowhere"}, {}, "DIGITS_DEPLOYER"),
        ({"trainer": "nowhere"}, {}, "DIGITS_TRAINER"),
        ({"workers": 2}, {}, "workers"),
        ({"workers": 2}, {"shards": 3}, "shards"),
        ({"workers": 2}, {"model": "baseline"}, "workers: expected 1 for the model baseline"),
        ({"port": 8080, "grpc_port": 8080}, {}, "two different ports"),
        ({"endpoint_token": "a\nb"}, {}, "DIGITS_ENDPOINT_TOKEN"),
        ({"namespace": "Team/a"}, {}, "K8S_NAMESPACE"),
        ({"store": "s3://digits"}, {}, "MINIO_ENDPOINT"),
        ({"store": "file:///dev/null/store"}, {}, "DIGITS_STORE: /dev/null"),
        ({"store": "file:///proc/store"}, {}, "DIGITS_STORE: /proc "),  # os.access allows it for root
        ({"tracking_uri": "mlflow.example:5000"}, {}, "MLFLOW_TRACKING_URI"),
        ({"tracking_uri": "sqlite:////dev/null/mlflow.db"}, {}, "MLFLOW_TRACKING_URI: /dev/null"),
        ({"tracking_uri": "sqlite:////tmp"}, {}, "MLFLOW_TRACKING_URI: expected a file"),
        ({"data": "/nonexistent"}, {}, "no folder /nonexistent"),
    ],
)
def test_an_invalid_request_starts_no_run(
    values: dict[str, Any], parameters: dict[str, Any], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the parameter or setting, and no run is created."""
    home = tmp_path / "home"
    monkeypatch.setattr("backends.process.predictor.ensure", lambda *_: None)
    with pytest.raises(DigitsError, match=named):
        ProcessBackend(Settings(home=home, **values)).run(Request(parameters), lambda event: None)
    assert not list(home.glob("runs/*"))


class ReadOnly(Quiet):
    """An S3 server with an empty bucket, for keys that may only read."""

    def respond(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:  # noqa: N802 # a name that the library calls
        self.respond(200, b"<ListBucketResult><Name>digits</Name></ListBucketResult>")

    def do_PUT(self) -> None:  # noqa: N802 # a name that the library calls
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.respond(403, b"<Error><Code>AccessDenied</Code></Error>")


def test_keys_that_may_only_read_start_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that refuses to be written, as the release would be after the training, is named before the run."""
    monkeypatch.setattr("backends.process.predictor.ensure", lambda *_: None)
    with kubernetes_api(ReadOnly) as endpoint:
        keys = {"minio_access_key": "access", "minio_secret_key": "a-secret-key"}
        settings = Settings(home=tmp_path, store="s3://digits", minio_endpoint=endpoint, **keys)
        with pytest.raises(DigitsError, match=r"s3://digits.*AccessDenied"):
            ProcessBackend(settings).run(Request({"dataset": "sklearn-digits"}), lambda event: None)
    assert not list(tmp_path.glob("runs/*"))


def test_a_damaged_ledger_starts_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger in which the release could not be promoted after the training is named before the run."""
    monkeypatch.setattr("backends.process.predictor.ensure", lambda *_: None)
    settings = Settings(home=tmp_path / "home")
    homes.claim(settings.home)
    open_store(settings).put("promotions/digits/00000001.json", b"{")
    with pytest.raises(ReleaseError, match=r"ledger entry .*00000001\.json is damaged"):
        ProcessBackend(settings).run(Request({"dataset": "sklearn-digits"}), lambda event: None)
    assert not list(settings.home.glob("runs/*"))


def test_a_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the space that the smallest data set needs, the folder and its free space are named."""
    monkeypatch.setattr(preflight, "MIN_FREE", 1 << 60)
    with pytest.raises(DigitsError, match=f"DIGITS_HOME: expected at least .* of free space in {tmp_path}"):
        preflight.check(Settings(home=tmp_path), {})


def test_the_reason_why_a_folder_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk without free inodes is not said to have a folder that is none, or a wrong setting."""

    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(MissingError, match=f"DIGITS_STORE: {tmp_path} cannot be written: No space left on device"):
        preflight.check(Settings(home=tmp_path), {})


@pytest.mark.parametrize("name", ["mlartifacts", "mlartifacts/models", "pipeline"])
def test_a_folder_of_the_home_that_is_a_file_is_refused(tmp_path: Path, name: str) -> None:
    """What would prevent the files of steps, or MLflow's after the training, is named before the run."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("")
    with pytest.raises(DigitsError, match=f"DIGITS_HOME: {tmp_path / name} is not a folder"):
        preflight.check(Settings(home=tmp_path), {})


def test_a_database_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """MLflow's database is opened for writing before the training; a program that runs cannot be, not even by root."""
    shutil.copy(shutil.which("sleep") or "", tmp_path / "mlflow.db")
    with subprocess.Popen([tmp_path / "mlflow.db", "60"]) as process:
        try:
            with pytest.raises(MissingError, match=f"MLFLOW_TRACKING_URI: {tmp_path}/mlflow.db cannot be written"):
                preflight.check(Settings(home=tmp_path), {})
        finally:
            process.kill()


def test_links_to_folders_that_do_not_exist_yet_are_followed(tmp_path: Path) -> None:
    """Store and database are created where a link leads to; MLflow cannot create its files' folder there."""
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "new")
    address = f"sqlite:///{tmp_path}/link/mlflow.db"
    preflight.check(Settings(home=tmp_path, store=(tmp_path / "link").as_uri(), tracking_uri=address), {})
    (tmp_path / "mlartifacts").symlink_to(tmp_path / "disk" / "new")
    with pytest.raises(DigitsError, match=f"DIGITS_HOME: {tmp_path}/mlartifacts is not a folder"):
        preflight.check(Settings(home=tmp_path), {})


def test_a_database_is_found_in_a_home_with_a_space(tmp_path: Path) -> None:
    """The address of MLflow's database, which escapes the space, is checked as the path that MLflow will use."""
    home = tmp_path / "my home"
    (home / "mlflow.db").mkdir(parents=True)
    with pytest.raises(DigitsError, match="MLFLOW_TRACKING_URI: expected a file"):
        preflight.check(Settings(home=home), {})

"""The checks of the train step on Kubeflow before the training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from digits.errors import DigitsError
from digits.events import EventLog
from digits.release import precheck
from digits.settings import Settings
from digits.store import open_store
from digits.tasks.task import find
from tests.helpers.support import Finished, open_mlflow


@pytest.fixture
def settings(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a step on Kubeflow, which are in its environment. Its events go to the file `events`."""
    settings = finished.empty(tmp_path / "home")
    settings = dataclasses.replace(settings, backend="kubeflow", tracking_uri=f"sqlite:///{tmp_path}/theirs.db")
    for name, value in settings.environ().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DIGITS_EVENTS", str(tmp_path / "events"))
    return settings


def damage_ledger(settings: Settings, _: pytest.MonkeyPatch) -> None:
    open_store(settings).put("promotions/digits/00000001.json", b"{")


def take_model(settings: Settings, _: pytest.MonkeyPatch) -> None:
    open_mlflow(settings).create_registered_model("digits")


def name_deployer(_: Settings, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("DIGITS_DEPLOYER", "misspelt")


def damage_keys(settings: Settings, patch: pytest.MonkeyPatch) -> None:
    (settings.home / "key.pub").write_text("no key")
    patch.setenv("DIGITS_TRUSTED_KEYS", str(settings.home / "key.pub"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damage_ledger, "ledger entry"),
        (take_model, "belongs to another project"),
        (name_deployer, "DIGITS_DEPLOYER"),
        (damage_keys, "DIGITS_TRUSTED_KEYS: expected a public key"),
    ],
)
def test_what_publication_needs_is_checked(
    change: Callable[[Settings, pytest.MonkeyPatch], None],
    message: str,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On Kubeflow, and only there, the train step fails before the training if a later step would fail."""
    task = find("digits").text()
    precheck.check(task)
    change(settings, monkeypatch)
    with pytest.raises(DigitsError, match=message):
        precheck.check(task)
    failed = [event for event in EventLog(tmp_path / "events").read_new() if event["event"] == "failed"]
    assert [event["step"] for event in failed] == ["train"]
    monkeypatch.setenv("DIGITS_BACKEND", "process")
    precheck.check(task)


def test_a_server_that_does_not_answer_ends_no_training(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store and an MLflow may answer again when they are needed."""
    monkeypatch.setenv("DIGITS_STORE", "s3://bucket")
    monkeypatch.setenv("MINIO_ENDPOINT", "127.0.0.1:9")
    monkeypatch.setenv("MINIO_ACCESS_KEY", "a")
    monkeypatch.setenv("MINIO_SECRET_KEY", "b")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{settings.home}")
    precheck.check(find("digits").text())

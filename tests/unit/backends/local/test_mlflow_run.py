"""The engine makes MLflow's run in the background and passes it to the step `publish`."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from backends.local.mlflow_run import MlflowRun
from digits import events
from digits.errors import MissingError
from digits.release import mlflow_log
from digits.settings import Settings

RECORD: dict[str, Any] = {"backend": "process", "parameters": {}}


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowRun:
    """The MLflow run of a run whose events are in tmp_path/events."""
    monkeypatch.setenv(events.VARIABLE, str(tmp_path / "events"))
    return MlflowRun(Settings(home=tmp_path), "r", RECORD)


def test_publish_gets_the_run_and_other_steps_do_not_wait(made: MlflowRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first step starts without the id, which `publish` waits for; the last status is set."""
    ready, ended = threading.Event(), []
    monkeypatch.setattr(mlflow_log, "start_run", lambda *_: ready.wait(10) and "m")
    monkeypatch.setattr(mlflow_log, "end_run", lambda settings, run_id, status: ended.append((run_id, status)))
    assert made.environment_of("train") == {}
    ready.set()
    assert made.environment_of("publish") == {mlflow_log.RUN_VARIABLE: "m"}
    made.end(mlflow_log.KILLED)
    assert ended == [("m", mlflow_log.KILLED)]


def test_deploy_alone_makes_no_run(made: MlflowRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run in which only `deploy` is not cached has nothing to log."""
    monkeypatch.delattr(mlflow_log, "start_run")
    assert made.environment_of("deploy") == {}
    made.end(mlflow_log.FINISHED)


def test_an_unreachable_mlflow_is_reported_and_the_run_continues(
    made: MlflowRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is an event of `publish`, which then starts without an MLflow run and reports it itself."""

    def refuse(*_: object) -> str:
        raise MissingError("MLflow does not answer")

    monkeypatch.setattr(mlflow_log, "start_run", refuse)
    assert made.environment_of("publish") == {}
    (event,) = events.EventLog(tmp_path / "events").read_new()
    assert (event["event"], event["step"]) == ("progress", "publish")
    assert "MLflow does not answer" in event["text"]

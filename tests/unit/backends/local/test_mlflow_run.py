"""The engine makes MLflow's run in the background and passes it to the step `publish`."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from backends.local.mlflow_run import MlflowRun
from digits import events
from digits.errors import MissingError, UsageError
from digits.release import mlflow_log, mlflow_registry
from digits.settings import Settings

RECORD: dict[str, Any] = {"backend": "process", "parameters": {}}


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowRun:
    """The MLflow run of a run whose events are in tmp_path/events."""
    monkeypatch.setenv(events.VARIABLE, str(tmp_path / "events"))
    monkeypatch.setattr(mlflow_registry, "check_model", lambda _: None)
    return MlflowRun(Settings(home=tmp_path), "r", RECORD)


def test_publish_gets_the_run_and_other_steps_do_not_wait(made: MlflowRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first step starts without the id, which `publish` waits for; the last status is set."""
    ready, ended = threading.Event(), []
    monkeypatch.setattr(mlflow_log, "start_run", lambda *_, **__: ready.wait(10) and "m")
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

    def refuse(*_: object, **__: object) -> str:
        raise MissingError("MLflow does not answer")

    monkeypatch.setattr(mlflow_log, "start_run", refuse)
    assert made.environment_of("publish") == {}
    (event,) = events.EventLog(tmp_path / "events").read_new()
    assert (event["event"], event["step"]) == ("progress", "publish")
    assert "MLflow does not answer" in event["text"]


@pytest.mark.parametrize("refuses", [(mlflow_log, "start_run"), (mlflow_registry, "check_model")])
def test_what_belongs_to_another_project_ends_the_run_before_the_training(
    refuses: tuple[Any, str], made: MlflowRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`publish` would refuse such an experiment or registered model too, so the engine is ended with that error."""

    def refuse(*_: object, **__: object) -> str:
        raise UsageError("it belongs to another project", remedy="another name")

    ended = list[tuple[int, int]]()
    monkeypatch.setattr(mlflow_log, "start_run", lambda *_, **__: "m")
    monkeypatch.setattr(*refuses, refuse)
    monkeypatch.setattr(os, "kill", lambda *arguments: ended.append(arguments))
    made.environment_of("publish")
    assert ended == [(os.getpid(), signal.SIGTERM)]
    event = events.EventLog(tmp_path / "events").read_new()[-1]
    assert (event["event"], event["step"], event["exit_code"]) == ("failed", "publish", 2)
    assert (event["cause"], event["remedy"]) == ("it belongs to another project", "another name")

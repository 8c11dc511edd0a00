"""A step that exits with 0 but did not write its outputs fails; kfp.local misses that (kubeflow/pipelines#13332)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from backends import runs
from backends.base import Request
from backends.local import kfp_local
from digits import events

Guarded = tuple[events.EventLog, Callable[..., int]]


class NoMlflow:
    """Stands in for the engine's MLflow run."""

    def environment_of(self, step: str) -> dict[str, str]:
        """Return no variables."""
        return {}


@pytest.fixture
def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Guarded:
    """The events of a run, and a function that runs a step: it writes the given files and exits with 0."""
    from kfp.local import docker_task_handler, subprocess_task_handler

    # Set to their present values, so that monkeypatch restores them.
    monkeypatch.setattr(docker_task_handler, "run_docker_container", docker_task_handler.run_docker_container)
    monkeypatch.setattr(subprocess_task_handler, "run_local_subprocess", subprocess_task_handler.run_local_subprocess)
    run = runs.create(tmp_path, "docker", Request({}))
    monkeypatch.setenv(events.VARIABLE, str(run.events))
    executor_input = {
        "outputs": {
            "artifacts": {"model": {"artifacts": [{"uri": str(tmp_path / "model")}]}},
            "outputFile": str(tmp_path / "executor_output.json"),
        }
    }
    command = ["python3", "--executor_input", json.dumps(executor_input), "--function_to_execute", "train"]

    def step(*written: str) -> int:
        def start(*_: object) -> int:
            for file in written:
                (tmp_path / file).write_text("{}")
            return 0

        kfp_local.guard_steps(start, run, NoMlflow())
        return int(docker_task_handler.run_docker_container(None, "image", command, {}, environment={}))

    return events.EventLog(run.events), step


@pytest.mark.parametrize("written", [[], ["model"], ["executor_output.json"]])
def test_a_step_without_its_outputs_fails(guarded: Guarded, written: list[str]) -> None:
    """A step that exits with 0 but lacks an output fails, and the error names the missing outputs."""
    log, step = guarded
    assert step(*written) == 1
    failed = [event for event in log.read_new() if event["event"] == "failed"]
    missing = {"model", "executor_output.json"} - set(written)
    assert all(name in failed[0]["cause"] for name in missing)


def test_a_step_with_its_outputs_succeeds(guarded: Guarded) -> None:
    """A step that exits with 0 and wrote every output succeeds."""
    log, step = guarded
    assert step("model", "executor_output.json") == 0
    assert [event["event"] for event in log.read_new()] == ["started", "finished"]

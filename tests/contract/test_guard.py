"""No step counts as done that has not written what it declares, whatever its runner says (kubeflow/pipelines#13332)."""

from __future__ import annotations

import json

import pytest

from backends import runs
from backends.base import Request
from backends.local import kfp_local
from digits import events


class NoMlflow:
    """Stands in for the engine's MLflow run."""

    def environment_of(self, step):
        """Return no variables."""
        return {}


@pytest.fixture
def guarded(tmp_path, monkeypatch):
    """(a run's events, run a step that ends with code 0 after writing the given files)."""
    from kfp.local import docker_task_handler, subprocess_task_handler

    # Set to what they are, so that they are put back at the end.
    monkeypatch.setattr(docker_task_handler, "run_docker_container", docker_task_handler.run_docker_container)
    monkeypatch.setattr(subprocess_task_handler, "run_local_subprocess", subprocess_task_handler.run_local_subprocess)
    run = runs.create(tmp_path, "docker", Request({}))
    monkeypatch.setenv(events.VARIABLE, str(run.events))
    asked = {
        "outputs": {
            "artifacts": {"model": {"artifacts": [{"uri": str(tmp_path / "model")}]}},
            "outputFile": str(tmp_path / "executor_output.json"),
        }
    }
    command = ["python3", "--executor_input", json.dumps(asked), "--function_to_execute", "train"]

    def step(*written):
        def start(name, full_command, environment, log):
            for file in written:
                (tmp_path / file).write_text("{}")
            return 0

        kfp_local.guard_steps(start, run, NoMlflow())
        return docker_task_handler.run_docker_container(None, "image", command, {}, environment={})

    return events.EventLog(run.events), step


@pytest.mark.parametrize("written", [[], ["model"], ["executor_output.json"]])
def test_a_step_without_its_outputs_is_a_failed_step(guarded, written):
    """Exit code 0 with an output missing fails, and the missing ones are named."""
    told, step = guarded
    assert step(*written) == 1
    failed = [event for event in told.read_new() if event["event"] == "failed"]
    missing = {"model", "executor_output.json"} - set(written)
    assert all(name in failed[0]["cause"] for name in missing)


def test_a_step_with_its_outputs_is_done(guarded):
    """Exit code 0 with every output there is a success."""
    told, step = guarded
    assert step("model", "executor_output.json") == 0
    assert [event["event"] for event in told.read_new()] == ["started", "finished"]

"""Batches against a server of the Pipelines API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from backends import runs
from backends.kubeflow import backend as kubeflow
from backends.kubeflow.batch_run import KubeflowBatch
from backends.kubeflow.submit import compiled
from backends.kubeflow.tasks import TRUSTED_KEYS
from digits.errors import RunContinues, StepFailed
from digits.settings import Settings
from pipeline import BATCH, BATCH_STEPS, shares_of
from pipeline.batch_definition import build
from tests.helpers.kfp_api import Pipelines
from tests.helpers.kfp_runs import invoke, node, pod, task, tasks

PLACES = {"pictures": "s3://bucket/in", "output": "s3://bucket/out"}
MANIFEST = {"pictures": 7, "release": "abc", "verdicts": {"sure": 6, "empty": 1, "unsure": 0}, "parts": {}}


def event(kind: str, step: str, moment: float = 1.0, **details: Any) -> str:
    """Return the line of an event in a pod's log."""
    return json.dumps({"event": kind, "step": step, "time": moment, **details}) + "\n"


def loop(state: str, *states: str) -> list[dict[str, Any]]:
    """Return the tasks of a loop in this state, and of its iterations."""
    drivers = [task("predict-part-driver", "SUCCEEDED", seconds=2) for _ in states]
    return [task("for-loop-1", state), *drivers, *(task("predict-part", each) for each in states)]


def batch(settings: Settings, events: list[Any]) -> dict[str, Any]:
    backend = KubeflowBatch(settings)
    try:
        return backend.predict(PLACES, events.append)
    finally:
        backend.close()


def test_a_batch_is_watched_to_its_manifest(settings: Settings, api: Pipelines) -> None:
    """The loop counts as one step, which ends with its last pod; the manifest comes from the last step's log."""
    plan, finish = (task(step, "SUCCEEDED") for step in (BATCH_STEPS[0], BATCH_STEPS[2]))
    api.snapshots = [
        ("RUNNING", tasks(plan, *loop("RUNNING", "RUNNING"))),
        ("RUNNING", tasks(plan, *loop("RUNNING", "SUCCEEDED"))),
        ("RUNNING", tasks(plan, *loop("RUNNING", "RUNNING", "SUCCEEDED"))),
        ("SUCCEEDED", tasks(plan, *loop("SUCCEEDED", "SUCCEEDED", "SUCCEEDED"), finish)),
    ]
    api.logs[pod("finish-batch")] = event("outputs", "finish-batch", outputs=MANIFEST)
    events: list[Any] = []
    assert batch(settings, events) == MANIFEST
    changes = [(each["event"], each["step"]) for each in events if each["step"]]
    assert changes == [(kind, step) for step in BATCH_STEPS for kind in ("started", "finished")]
    (sent,) = api.runs.values()
    assert sent["runtime_config"]["parameters"] == PLACES
    assert api.experiments[sent["experiment_id"]]["display_name"] == BATCH


def test_the_cause_is_that_of_the_pod_that_failed(settings: Settings, api: Pipelines) -> None:
    """If one of several pods of a step fails, the error has its message, although another one succeeded later."""
    api.snapshots = [("FAILED", tasks(*loop("FAILED", "FAILED", "SUCCEEDED")))]
    api.logs[pod("predict-part", 0)] = event("failed", "predict-part", cause="no space left", remedy="free some")
    api.logs[pod("predict-part", 1)] = event("progress", "predict-part", 2.0, text="5 of 5 pictures")
    with pytest.raises(StepFailed, match="step predict-part failed: no space left") as raised:
        batch(settings, [])
    assert raised.value.remedy == "free some"
    assert raised.value.log is not None
    assert runs.all_runs(settings.home) == []


def test_a_pod_that_succeeded_does_not_hide_another_ones_failure(settings: Settings, api: Pipelines) -> None:
    """A pod without a log that was killed is the cause, although the same step succeeded for another share."""
    api.snapshots = [("FAILED", tasks(*loop("FAILED", "FAILED", "SUCCEEDED")))]
    killed = node("predict-part", "Failed", "OOMKilled (exit code 137)", ended="2026-01-01T00:00:05Z")
    other = node("predict-part", "Succeeded", ended="2026-01-01T00:00:09Z")
    api.nodes = killed | {f"{key}-2": {**each, "boundaryID": "dag-predict-part-2"} for key, each in other.items()}
    with pytest.raises(StepFailed, match="step predict-part failed: OOMKilled"):
        batch(settings, [])


def test_the_command_submits_the_shares(settings: Settings, api: Pipelines) -> None:
    """`digits batch --backend kubeflow --pods 3` divides the batch in three, and prints the manifest."""
    api.logs[pod("finish-batch")] = event("outputs", "finish-batch", outputs=MANIFEST)
    api.snapshots = [("SUCCEEDED", tasks(task("finish-batch", "SUCCEEDED")))]
    options = ("--backend", "kubeflow", "--pods", "3", "--release", "abc", "--json")
    result = invoke(api, settings.home, "batch", *PLACES.values(), *options)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"output": PLACES["output"], **MANIFEST}
    (sent,) = api.runs.values()
    expected = PLACES | {"release": "abc", "shares": shares_of(3), "task": "digits"}
    assert sent["runtime_config"]["parameters"] == expected


def test_a_batch_that_continues_can_be_watched_again(settings: Settings, api: Pipelines, monkeypatch: Any) -> None:
    """The remedy after exit code 4 is `digits watch`, which shows the batch's own steps and prints its manifest."""
    api.snapshots = [("RUNNING", [])]
    with monkeypatch.context() as patch:
        patch.setattr(kubeflow, "RUN_SECONDS", 0.05)
        with pytest.raises(RunContinues) as raised:
            batch(settings, [])
    finish = task("finish-batch", "SUCCEEDED")
    api.snapshots = [("RUNNING", tasks(*loop("RUNNING", "RUNNING"))), ("SUCCEEDED", tasks(finish))]
    api.logs[pod("finish-batch")] = event("outputs", "finish-batch", outputs=MANIFEST)
    assert raised.value.remedy is not None
    result = invoke(api, settings.home, *raised.value.remedy.split(", then digits ")[-1].split(), "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"output": PLACES["output"], **MANIFEST}
    assert "finish-batch" in result.stderr
    assert (len(api.runs), runs.all_runs(settings.home)) == (1, [])


def test_without_a_log_the_command_names_the_manifest(settings: Settings, api: Pipelines) -> None:
    """If the last pod is gone, the batch is finished, and the user learns where its manifest is."""
    result = invoke(api, settings.home, "batch", *PLACES.values(), "--backend", "kubeflow")
    assert result.exit_code == 0, result.output
    assert f"{PLACES['output']}/manifest.json" in result.stderr


def test_places_of_this_machine_are_refused(settings: Settings, api: Pipelines) -> None:
    """The pods cannot read a folder of this machine, so nothing is submitted."""
    for places in (("scans", "s3://bucket/out"), ("s3://bucket/in", "answers"), ("s3://bucket/in", "file:///out")):
        result = invoke(api, settings.home, "batch", *places, "--backend", "kubeflow")
        assert result.exit_code != 0
    assert api.runs == {}


def test_each_step_has_the_settings_of_its_namespace(settings: Settings) -> None:
    """Image, limits, deadline, credentials and trusted keys are set on each step, the one in the loop too."""
    spec = compiled(settings, of=build)
    platform = spec["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    executors = spec["pipeline_spec"]["deploymentSpec"]["executors"]
    for step in BATCH_STEPS:
        container, kubernetes = executors[f"exec-{step}"]["container"], platform[f"exec-{step}"]
        assert "digits-python-steps" in container["image"]
        assert {"cpuLimit", "memoryLimit"} <= set(container["resources"])
        assert int(kubernetes["activeDeadlineSeconds"]) > 0
        assert "MINIO_SECRET_KEY" in {entry["envVar"] for entry in kubernetes["secretAsEnv"][0]["keyToEnv"]}
        assert kubernetes["configMapAsVolume"][0]["configMapName"] == TRUSTED_KEYS[0]

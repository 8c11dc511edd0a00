"""Runs as the Pipelines API reports them, for the server in `kfp_api`."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import json
import uuid
import zlib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from backends.kubeflow import submit
from backends.kubeflow.submit import compiled
from backends.kubeflow.tasks import UNCACHED_STEPS
from digits.cli import cli
from digits.settings import Settings
from pipeline import STEPS
from tests.helpers.kfp_api import Pipelines

Json = dict[str, Any]
WORKFLOW = "digits-recognizer-x7k2p"
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
SECRETS = ("canary-access", "canary-secret", "canary-token", "canary-cookie", "canary-endpoint-token")
OUTPUTS = {
    "data": {"dataset": "mnist"},
    "feedback": {"count": 0},
    "trained": {"seconds": 3.0},
    "published": {"version": "abc", "digest": "abcdef", "mlflow_run": "f00", "accuracy": 0.99}
    | {"promoted": True, "why": "it is better", "champion": "abc"},
    "deployed": {"endpoint": "http://digits-predictor.digits.svc.cluster.local", "version": "abc"},
}
COMPILED: dict[Any, Json] = {}


def compile_quickly(patch: pytest.MonkeyPatch) -> None:
    """Compile the same settings once for all tests.

    Also replace a check of KFP that inspects all frames of the stack at each call: 0.1 s each under pytest.
    """
    from kfp.dsl.pipeline_task import PipelineTask

    def once(settings: Settings, uncached: tuple[str, ...] = UNCACHED_STEPS) -> Json:
        replaced = {"home": Path("/"), "store": "file:///", "tracking_uri": "sqlite:////x", "kfp_host": "http://x"}
        key = (dataclasses.replace(settings, **replaced), uncached)
        if key not in COMPILED:
            COMPILED[key] = compiled(settings, uncached)
        return copy.deepcopy(COMPILED[key])

    patch.setattr(PipelineTask, "_ensure_container_spec_exists", lambda task: None)
    patch.setattr(submit, "compiled", once)


def task(name: str, state: str, begin: int = 0, seconds: int = 20, error: str = "") -> Json:
    """Return a task as the API reports it: the workflow's node of that name, started `begin` seconds after START."""
    moments = {"start_time": START + datetime.timedelta(seconds=begin)}
    ended = state in {"SUCCEEDED", "FAILED", "SKIPPED", "CANCELED"}
    moments["end_time"] = (
        moments["start_time"] + datetime.timedelta(seconds=seconds) if ended else datetime.datetime(1, 1, 1)
    )
    details: Json = {"display_name": name, "state": state, "task_id": str(uuid.uuid4())}
    details |= {key: value.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0") for key, value in moments.items()}
    if error:
        details["error"] = {"code": 13, "message": error}
    return details


def tasks(*of_steps: Json) -> list[Json]:
    """Return all tasks of a run with these tasks of steps, each with two attempts, as with Kubeflow's defaults."""
    root = [task(WORKFLOW, "RUNNING"), task("root", "RUNNING"), task("root-driver", "SUCCEEDED", seconds=5)]
    executors = []
    for step in of_steps:
        nodes = [{"pod_name": node_of(step["display_name"], attempt)} for attempt in (0, 1)]
        executors.append(step | {"display_name": "executor", "task_id": str(uuid.uuid4()), "child_tasks": nodes})
    return [*root, *of_steps, *executors, task(f"{WORKFLOW}(0)", "RUNNING"), task("root(0)", "RUNNING")]


def node_of(step: str, attempt: int = 0) -> str:
    """Return the id of the workflow's node for an attempt of a step; as in Argo it does not show the step."""
    return f"{WORKFLOW}-{zlib.crc32(f'{step}({attempt})'.encode())}"


def pod(step: str, attempt: int = 0) -> str:
    """Return the name of the pod of an attempt of a step."""
    return node_of(step, attempt).replace(WORKFLOW, f"{WORKFLOW}-retry-system-container-impl")


def node(step: str, phase: str, message: str = "", *, name: str = "executor", ended: str = "") -> dict[str, Json]:
    """Return the nodes of a step and of one of its pods by their ids, as Argo reports them."""
    pod_node = {"displayName": name, "boundaryID": f"dag-{step}", "type": "Pod", "phase": phase, "message": message}
    pod_node["finishedAt"] = ended
    return {f"dag-{step}": {"displayName": step, "type": "DAG"}, f"{step}-{name}-{phase}-{ended}": pod_node}


def succeeded(api: Pipelines, *cached: str) -> None:
    """Make the next run succeed, with its outputs in the log of its deploy step."""
    steps = [task(step, "SUCCEEDED", 20 * i, seconds=0 if step in cached else 20) for i, step in enumerate(STEPS)]
    api.snapshots = [
        ("PENDING", []),
        ("RUNNING", tasks(task("fetch-mnist-driver", "RUNNING"))),
        ("RUNNING", tasks(task("fetch-mnist-driver", "SUCCEEDED"), task("fetch-mnist", "RUNNING"))),
        ("SUCCEEDED", tasks(*steps)),
    ]
    event = {"event": "outputs", "step": "deploy", "time": 1.0, "outputs": OUTPUTS}
    api.logs[pod("deploy")] = f"I1123 launcher\n{json.dumps(event)}\nI1123 publish success.\n"


def invoke(api: Pipelines, home: Path, *arguments: str, **environ: str) -> Any:
    """Run `digits` with these arguments against the server; return click's result."""
    variables = {"DIGITS_KFP_HOST": api.url, "DIGITS_HOME": str(home), **environ}
    return CliRunner().invoke(cli, arguments, env=variables, catch_exceptions=True)

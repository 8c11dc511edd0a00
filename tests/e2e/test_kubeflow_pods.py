"""Pods that wait, are refused, fail or are lost, as `digits run` reports them: real pods of the submitted pipeline.

The cluster of this lane has no Kubeflow Pipelines. `Argo` replaces its API and its workflow controller, and writes into
a workflow's nodes what Argo 4.0.5 does (`getPendingReason`, `inferFailedReason`, `assessNodeStatus` in its source).
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backends.base import Request, Result
from backends.kind.namespace import credentials
from backends.kserve.kube import RefusedError
from backends.kubeflow import backend as kubeflow
from backends.kubeflow.backend import KubeflowBackend
from backends.kubeflow.watch import events_of
from digits.errors import Interrupted, StepFailed
from digits.settings import Settings
from digits.store.s3 import S3Store
from tests.helpers import canary
from tests.helpers.cluster_fixtures import Namespace, new_namespace
from tests.helpers.kfp_api import Pipelines, serving
from tests.helpers.kfp_pods import Driver, Json
from tests.helpers.kfp_runs import node, node_of, task, tasks

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]
STORE_STEP = "collect-feedback"  # the first that needs the object store; it has no inputs from other steps
LIMIT_RANGE = {
    "apiVersion": "v1",
    "kind": "LimitRange",
    "metadata": {"name": "small"},
    "spec": {"limits": [{"type": "Container", "max": {"memory": "2Gi"}}]},
}


@pytest.fixture(scope="module")
def namespace(cluster_settings: Settings, cluster_images: dict[str, str]) -> Iterator[Namespace]:
    """Yield a namespace for all of these tests, because each takes several seconds to make."""
    with new_namespace(cluster_settings, cluster_images) as made:
        yield made


class Argo(Pipelines):
    """A Pipelines API that runs one step of each submitted run in real pods.

    A lost pod is replaced once, a step that ended with an error is not: the template that Argo merges for the pipeline
    has `retryPolicy: OnError` and at least one retry.
    """

    def __init__(self, namespace: Namespace, step: str, change: Callable[[Json], None] = lambda pod: None) -> None:
        super().__init__()
        self.namespace, self.step, self.change = namespace, step, change
        self.pods, self.attempts = f"/api/v1/namespaces/{namespace.name}/pods", dict[str, Json]()
        self.refused = False
        self.on_log: Callable[[str, str], None] = lambda pod, log: None

    def _create(self, kind: str, key: str, body: Json) -> Any:
        created = super()._create(kind, key, body)
        if kind == "runs":
            name, client = f"run-{created[key][:8]}", self.namespace.store._client  # type: ignore[attr-defined]
            if not client.bucket_exists("mlpipeline"):  # Kubeflow's, for artifacts
                client.make_bucket("mlpipeline")
            root = S3Store(client, "mlpipeline", "v2")
            spec, kubectl = body["pipeline_spec"], self.namespace.kubectl
            self.driver = Driver(spec, name, kubectl, root, "digits-deployer", body["runtime_config"]["parameters"])
            for before, each in self.driver.steps.items():  # as if it had run
                outputs = self.driver.pipeline["components"][each["componentRef"]["name"]].get("outputDefinitions", {})
                artifacts = {key: {"artifacts": []} for key in outputs.get("artifacts", {})}
                values: Json = {key: {} for key in outputs.get("parameters", {})}
                self.driver.outputs[before] = {"parameterValues": values, "artifacts": artifacts}
            self._start()
        return created

    def _start(self) -> None:
        pod = self.driver.pod(self.step)
        pod["metadata"]["name"] = name = f"{self.driver.run_id}-{self.step}-{len(self.attempts)}"
        self.change(pod)
        self._report(name, "RUNNING", "Pending")
        try:
            self.namespace.kube.request("POST", self.pods, body=pod)
        except RefusedError as exc:
            self.refused = True
            self._report(name, "RUNNING", "Error", exc.message.partition("/pods: ")[2])

    def _look(self, run_id: str) -> Any:
        name, attempt = list(self.attempts)[-1], len(self.attempts) - 1
        live = self.namespace.kube.get(f"{self.pods}/{name}")
        if live:
            self._observe(name, live["status"])
        elif not self.refused:
            self._report(name, "RUNNING", "Error", "pod deleted")
            if not attempt:
                self._start()
        return super()._look(run_id)

    def _observe(self, name: str, status: Json) -> None:
        phase = status["phase"]
        (container,) = status.get("containerStatuses") or [{"state": {}}]
        state = {"Succeeded": "SUCCEEDED", "Failed": "FAILED"}.get(phase, "RUNNING")
        reasons = [item for item in status.get("conditions", []) if item.get("reason") == "Unschedulable"]
        reasons = [container["state"].get("waiting"), *reasons] if phase == "Pending" else []
        texts = [": ".join(filter(None, (item["reason"], item.get("message")))) for item in reasons if item]
        if phase == "Failed":
            ended = container["state"]["terminated"]
            texts = [f"main: {ended['reason']} (exit code {ended['exitCode']})"]
        self._report(name, state, phase, *texts[:1])
        if phase != "Pending":
            log = self.archive[node_of(self.step, len(self.attempts) - 1)] = self.driver.kubectl("logs", name)
            self.on_log(name, log)

    def _report(self, name: str, state: str, phase: str, message: str = "") -> None:
        ended = str(len(self.attempts)) if phase in {"Succeeded", "Failed", "Error"} else ""
        self.attempts.pop(name, None)
        attempt = f"executor({len(self.attempts)})"
        self.attempts[name] = node(self.step, phase, message, name=attempt, ended=ended)
        self.nodes = {key: value for nodes in self.attempts.values() for key, value in nodes.items()}
        self.snapshots = [(state, tasks(task(self.step, state)))]


def run(argo: Argo, home: Path, watch: Callable[[Any], None] = lambda event: None, **fields: Any) -> Result:
    """Run the pipeline as `digits run --backend kubeflow` does; `fields` are settings."""
    with serving(argo):
        own: Json = {"home": home, "backend": "kubeflow", "kfp_host": argo.url, "kfp_ui": "https://kubeflow.test"}
        settings: Settings = dataclasses.replace(argo.namespace.settings, **own | fields)
        return KubeflowBackend(settings).run(Request({}), watch)


def test_a_pod_that_cannot_be_scheduled_is_shown(namespace: Namespace, steps_image: str, tmp_path: Path) -> None:
    """The scheduler's reason and what to change are shown within 20 seconds, and Ctrl-C then ends the run."""
    shown: list[str] = []

    def watch(event: Any) -> None:
        if "Unschedulable" in event.get("text", ""):
            shown.append(event["text"])
            raise KeyboardInterrupt

    argo, began = Argo(namespace, "train"), time.monotonic()
    with pytest.raises(Interrupted, match="was stopped"):
        run(argo, tmp_path, watch, steps_image=steps_image, train_cpu_request="64", train_cpu="64")
    assert time.monotonic() - began < 20
    assert all(part in shown[0] for part in ("train: Unschedulable: ", "Insufficient cpu", "DIGITS_TRAIN_CPU_REQUEST"))
    assert argo.terminated == list(argo.runs)


def without_standard(pod: Json) -> None:
    """Add a container that the restricted Pod Security Standard does not allow."""
    pod["spec"]["initContainers"] = [{"name": "init", "image": pod["spec"]["containers"][0]["image"]}]


def below_request(pod: Json) -> None:
    """Set a limit below the request."""
    pod["spec"]["containers"][0]["resources"]["limits"]["memory"] = "64Mi"


def test_a_refused_pod_ends_the_run_with_the_servers_reason(
    namespace: Namespace, steps_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run ends immediately if the API server refuses a pod at each attempt, with the reason and what to correct."""
    monkeypatch.setattr(kubeflow, "MESSAGE_SECONDS", 0.0)

    def limit_range(pod: Json) -> None:
        namespace.kube.request("POST", f"/api/v1/namespaces/{namespace.name}/limitranges", body=LIMIT_RANGE)

    for change, reason, remedy in (
        (without_standard, "violates PodSecurity", "Pod Security Standard"),
        (below_request, "must be less than or equal to memory limit", "correct it"),
        (limit_range, "maximum memory usage per Container is 2Gi, but limit is 3Gi", "LimitRange"),
    ):
        argo = Argo(namespace, "train", change)
        with pytest.raises(StepFailed, match=f"step train failed: .*{reason}") as raised:
            run(argo, tmp_path, steps_image=steps_image)
        assert remedy in raised.value.remedy
        assert argo.terminated == list(argo.runs)
    namespace.kubectl("delete", "limitrange", "small")


def test_a_step_repeats_itself_and_argo_replaces_a_lost_pod(
    namespace: Namespace, steps_image: str, tmp_path: Path
) -> None:
    """A deleted pod is replaced, and the step waits in its pod for a store that does not answer; then it succeeds."""
    waited: list[str] = []

    def reach(app: str) -> None:
        patch = json.dumps({"spec": {"selector": {"app.kubernetes.io/name": app}}})
        namespace.kubectl("patch", "service", "minio", "--type=merge", f"--patch={patch}")

    def act(pod: str, log: str) -> None:
        if "trying again" not in log or pod in waited:
            return
        waited.append(pod)
        if len(waited) == 1:
            namespace.kubectl("delete", "pod", pod, "--grace-period=0", "--force")
        else:
            reach("minio")

    argo = Argo(namespace, STORE_STEP)
    argo.on_log = act
    reach("none")
    assert run(argo, tmp_path, steps_image=steps_image).state == "SUCCEEDED"
    first, second = argo.attempts
    assert waited == [first, second]
    assert json.loads(argo.driver.store.get(f"artifacts/{argo.driver.run_id}/{STORE_STEP}/output_metadata.json"))
    (status,) = json.loads(namespace.kubectl("get", "pod", second, "--output=json"))["status"]["containerStatuses"]
    assert status["restartCount"] == 0
    listed = namespace.kubectl("get", "pods", f"--selector=pipeline/runid={argo.driver.run_id}", "--output=name")
    assert listed.split() == [f"pod/{second}"]


def test_wrong_credentials_fail_the_step_at_once(namespace: Namespace, steps_image: str, tmp_path: Path) -> None:
    """An error that would come again is not repeated, neither in the pod nor by another pod, and names the setting."""
    access, _ = credentials(namespace.settings) or ("", "")
    keys = {"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": (wrong := "wrong-" + "x" * 20)}
    literals = [f"--from-literal={name}={value}" for name, value in keys.items()]
    namespace.kubectl("create", "secret", "generic", "wrong", *literals)
    argo = Argo(namespace, STORE_STEP)
    with pytest.raises(StepFailed, match=f"step {STORE_STEP} failed: .*SignatureDoesNotMatch") as raised:
        run(argo, tmp_path, steps_image=steps_image, secret_name="wrong")
    assert "MINIO_SECRET_KEY" in raised.value.remedy
    (log,) = argo.archive.values()
    assert [event["event"] for event in events_of(log, STORE_STEP)] == ["entered", "failed"]
    assert not canary.holds(f"{log}{raised.value}".encode(), (access, wrong))

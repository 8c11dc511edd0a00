"""Releases behind KServe on a real cluster: served, replaced without failed requests, and refused."""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from backends.kind.namespace import manifests
from backends.kserve import rollout
from backends.kserve.kube import kubeconfig_path
from backends.kserve.port_forward import forwarded
from backends.programs import ProgramError
from digits.errors import EndpointError
from digits.http import request_json
from digits.release import releases
from digits.settings import Settings
from tests.helpers.cluster_fixtures import Namespace, Release
from tests.helpers.faulty_proxy import FaultyProxy, faulty_proxy
from tests.helpers.support import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]
LOAD = ROOT / "tests" / "helpers" / "load.py"
# The label of a pipeline's steps, whose network policy permits egress; without it a pod reaches nothing.
STEP = {"pipeline/runid": "e2e"}
# Prints which ports of DNS the pod reaches: 53, which our pods need, and 9153 (metrics), which they do not.
PROBE = """
import socket, sys, time

def reached(port):
    try:
        socket.create_connection((sys.argv[1], port), 3).close()
        return True
    except OSError:
        return False

for _ in range(5):  # a network may need a moment for a new pod
    time.sleep(1)
    ports = [port for port in (53, 9153) if reached(port)]
print(ports)
"""


def served(namespace: Namespace) -> str:
    """Return the version that the endpoint reports."""
    with rollout.connected(namespace.settings) as url:
        return str(request_json(f"{url}/v2/models/digits")["parameters"]["release"])


def isvc(namespace: Namespace) -> dict[str, Any]:
    return dict(json.loads(namespace.kubectl("get", "inferenceservice", "digits", "--output=json")))


def pods(namespace: Namespace) -> list[dict[str, Any]]:
    output = namespace.kubectl("get", "pods", "-l", "serving.kserve.io/inferenceservice=digits", "--output=json")
    return list(json.loads(output)["items"])


def locally(release: Release, images: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(release.folder / "model.onnx", providers=["CPUExecutionProvider"])
    pixels = images[..., None].astype(np.float32) / np.float32(255)
    return np.asarray(session.run(None, {"image": pixels})[0])


def over_grpc(port: int, images: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    monkeypatch.setattr(sys, "argv", sys.argv[:1])  # importing kserve reads it
    import grpc
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
    from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as stubs

    tensor = pb.ModelInferRequest.InferInputTensor(name="image", datatype="UINT8", shape=[len(images), 28, 28])
    request = pb.ModelInferRequest(model_name="digits", inputs=[tensor], raw_input_contents=[images.tobytes()])
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = stubs.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=30)
    return np.frombuffer(answer.raw_output_contents[1], "<f4").reshape(-1, 10)


def test_predictions_equal_the_local_ones(
    namespace: Namespace, small_releases: list[Release], digits_images: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deployed release gives the same predictions for 100 images over V1, V2 and gRPC as ONNX Runtime here."""
    release, images = small_releases[0], digits_images[0][:100]
    manifest, uri = namespace.publish(release)
    url = rollout.deploy(namespace.settings, manifest, uri)
    assert url == f"http://digits-predictor.{namespace.name}.svc.cluster.local"

    expected = locally(release, images)
    with rollout.connected(namespace.settings) as reached:
        v1 = request_json(f"{reached}/v1/models/digits:predict", {"instances": (images / 255).tolist()})
        tensor = {"name": "image", "datatype": "UINT8", "shape": [100, 28, 28], "data": images.reshape(-1).tolist()}
        v2 = request_json(f"{reached}/v2/models/digits/infer", {"inputs": [tensor]})
    outputs = {output["name"]: output["data"] for output in v2["outputs"]}
    service = "service/digits-predictor"
    with forwarded(kubeconfig_path(namespace.settings), namespace.name, service, 8081) as (port,):
        grpc = over_grpc(port, images, monkeypatch)
    for probabilities in (v1["predictions"], np.reshape(outputs["probabilities"], (100, 10)), grpc):
        np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    assert outputs["class"] == expected.argmax(1).tolist()
    print("predictions over V1, V2 and gRPC agree; first ten:", outputs["class"][:10])

    annotations = isvc(namespace)["metadata"]["annotations"]
    assert annotations["digits/digest"] == manifest["digest"]
    assert annotations["digits/mlflow-run"] == "run-1"
    assert json.loads(annotations["digits/data"]) == manifest["data"]


def test_pods_are_restricted(namespace: Namespace, small_releases: list[Release]) -> None:
    """The namespace enforces the restricted standard, and no pod has a token for the API server."""
    rollout.deploy(namespace.settings, *namespace.publish(small_releases[0]))
    labels = json.loads(namespace.kubectl("get", "namespace", namespace.name, "--output=json"))["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    for pod in pods(namespace):
        mounts = [m["mountPath"] for c in pod["spec"]["containers"] for m in c["volumeMounts"]]
        assert not any("serviceaccount" in path for path in mounts)
        for container in [*pod["spec"]["initContainers"], *pod["spec"]["containers"]]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["resources"]["limits"]


def test_policies_limit_what_pods_reach(namespace: Namespace, small_releases: list[Release]) -> None:
    """Page and predictor reach DNS but not its metrics; a pod without a policy reaches nothing."""
    dns = namespace.kube.request("GET", "/api/v1/namespaces/kube-system/services/kube-dns")["spec"]["clusterIP"]
    probe = ["python", "-c", PROBE, dns]
    probing = {"step": STEP, "page": {"app.kubernetes.io/name": "digits-web"}, "stranger": {}}
    for name, labels in probing.items():
        run_pod(namespace, name, probe, labels=labels)
    reached = {name: finished(namespace, name) for name in probing}
    assert reached["step"] == "[53, 9153]"
    if reached["stranger"] != "[]":
        pytest.skip("this cluster's network does not enforce policies: a pod without one reaches DNS")
    assert reached["page"] == "[53]"
    rollout.deploy(namespace.settings, *namespace.publish(small_releases[0]))
    (predictor,) = pods(namespace)
    inside = ("exec", predictor["metadata"]["name"], "--container=kserve-container", "--")
    assert namespace.kubectl(*inside, *probe).strip() == "[53]"


def test_versions_change_without_a_failed_request(namespace: Namespace, small_releases: list[Release]) -> None:
    """Under load no request fails during promotion, rollback and restart; each answer is of one of the releases."""
    first, second = small_releases
    rollout.deploy(namespace.settings, *namespace.publish(first))
    start_load(namespace)
    rollout.deploy(namespace.settings, *namespace.publish(second))
    assert served(namespace) == second.version
    assert rollout.rollback(namespace.settings) == first.version
    assert served(namespace) == first.version
    before = {pod["metadata"]["uid"] for pod in pods(namespace)}
    patch = {"spec": {"predictor": {"annotations": {"digits/restarted": "now"}}}}
    namespace.kubectl("patch", "inferenceservice", "digits", "--type=merge", f"--patch={json.dumps(patch)}")
    deadline = time.monotonic() + 120
    while before & {pod["metadata"]["uid"] for pod in pods(namespace)}:
        assert time.monotonic() < deadline, "the earlier pods still exist"
        time.sleep(1)
    assert served(namespace) == first.version
    result = stop_load(namespace)
    print("load:", result)
    if result["failed"]:
        print(namespace.kubectl("get", "events", "--sort-by=.metadata.creationTimestamp"))
    assert result["failed"] == []
    assert set(result["releases"]) == {first.version, second.version}
    assert result["requests"] > 100


def test_a_manually_applied_release_is_replaced(namespace: Namespace, small_releases: list[Release]) -> None:
    """A release that `kubectl apply -k` serves can be replaced by `deploy` and restored by `rollback`."""
    first, second = small_releases
    _, uri = namespace.publish(first)
    manifest = namespace.kubectl("kustomize", str(manifests() / "endpoint"))
    service = yaml.safe_load(manifest)
    service["spec"]["predictor"]["model"]["storageUri"] = uri
    service["metadata"]["namespace"] = namespace.name
    path = f"/apis/serving.kserve.io/v1beta1/namespaces/{namespace.name}/inferenceservices"
    namespace.kube.request("POST", path, body=service)
    namespace.kubectl("wait", "--for=condition=Ready", "inferenceservice/digits", "--timeout=120s", seconds=150)
    assert served(namespace) == first.version
    rollout.deploy(namespace.settings, *namespace.publish(second))
    assert served(namespace) == second.version
    assert rollout.rollback(namespace.settings) == first.version
    assert served(namespace) == first.version


def test_deploying_again_changes_nothing(namespace: Namespace, small_releases: list[Release]) -> None:
    """Deploying the same release keeps its pods, and the number of replicas that an operator has set."""
    manifest, uri = namespace.publish(small_releases[0])
    rollout.deploy(namespace.settings, manifest, uri)
    patch = {"spec": {"predictor": {"maxReplicas": 5}}}
    namespace.kubectl("patch", "inferenceservice", "digits", "--type=merge", f"--patch={json.dumps(patch)}")
    before = [pod["metadata"]["uid"] for pod in pods(namespace)]
    rollout.deploy(namespace.settings, manifest, uri)
    assert [pod["metadata"]["uid"] for pod in pods(namespace)] == before
    assert isvc(namespace)["spec"]["predictor"]["maxReplicas"] == 5


def test_wrong_s3_secret(namespace: Namespace, small_releases: list[Release]) -> None:
    """With a wrong secret the first deployment fails with the store's reason and is undone; corrected, it works."""
    manifest, uri = namespace.publish(small_releases[0])
    right = json.loads(namespace.kubectl("get", "secret", "minio-kserve-secret", "--output=json"))["data"]
    wrong = base64.b64encode(b"not-the-secret").decode()
    set_secret(namespace, wrong)
    with pytest.raises(EndpointError, match="storage-initializer") as failure:
        rollout.deploy(namespace.settings, manifest, uri)
    print(failure.value)
    assert "SignatureDoesNotMatch" in str(failure.value) or "403" in str(failure.value)
    assert namespace.kubectl("get", "inferenceservices", "--output=name") == ""
    set_secret(namespace, right["AWS_SECRET_ACCESS_KEY"])
    rollout.deploy(namespace.settings, manifest, uri)
    assert served(namespace) == small_releases[0].version


def test_missing_release(namespace: Namespace, small_releases: list[Release]) -> None:
    """A release that is not in the store fails with that reason; the former one is still served."""
    first, second = small_releases
    rollout.deploy(namespace.settings, *namespace.publish(first))
    before = isvc(namespace)["metadata"]["annotations"]
    with pytest.raises(EndpointError, match=second.version) as failure:
        rollout.deploy(namespace.settings, second.manifest, releases.release_uri(namespace.store, second.version))
    print(failure.value)
    assert "storage-initializer" in str(failure.value)
    assert isvc(namespace)["metadata"]["annotations"] == before
    assert served(namespace) == first.version


def test_corrupt_release(namespace: Namespace, small_releases: list[Release]) -> None:
    """A model that differs from its digest never becomes ready; the former one is still served."""
    first, second = small_releases
    rollout.deploy(namespace.settings, *namespace.publish(first))
    manifest, uri = namespace.publish(second)
    key = releases.release_prefix(namespace.store, second.version) + "model.onnx"
    content = namespace.store.get(key)
    namespace.store.put(key, content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(EndpointError, match="is damaged: expected SHA-256") as failure:
        rollout.deploy(namespace.settings, manifest, uri)
    print(failure.value)
    assert served(namespace) == first.version


def test_missing_image(namespace: Namespace, small_releases: list[Release]) -> None:
    """An image that cannot be pulled is named in the error."""
    manifest, uri = namespace.publish(small_releases[0])
    with pytest.raises(EndpointError, match=r"nowhere\.invalid/predictor:1"):
        rollout.deploy(namespace.settings, manifest, uri, image="nowhere.invalid/predictor:1")


def test_quota(namespace: Namespace, small_releases: list[Release]) -> None:
    """A quota that leaves no room for another pod is named in the error."""
    manifest, uri = namespace.publish(small_releases[0])
    namespace.kubectl("create", "quota", "full", "--hard=pods=1")
    with pytest.raises(EndpointError, match="exceeded quota"):
        rollout.deploy(namespace.settings, manifest, uri)


def test_killed_pod_recovers(namespace: Namespace, small_releases: list[Release]) -> None:
    """A predictor pod that is killed is replaced by one that serves the same release."""
    rollout.deploy(namespace.settings, *namespace.publish(small_releases[0]))
    (before,) = pods(namespace)
    namespace.kubectl("delete", "pod", before["metadata"]["name"], "--grace-period=0", "--force")
    deadline = time.monotonic() + 120
    while True:
        try:
            assert served(namespace) == small_releases[0].version
            break
        except (EndpointError, OSError):
            assert time.monotonic() < deadline, "no new pod answered"
            time.sleep(1)
    assert before["metadata"]["uid"] not in [pod["metadata"]["uid"] for pod in pods(namespace)]


def test_two_concurrent_deployments(namespace: Namespace, small_releases: list[Release]) -> None:
    """The later of two concurrent deployments is served; the other reports that it was overtaken."""
    prepared = [namespace.publish(release) for release in small_releases]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        runs = [pool.submit(rollout.deploy, namespace.settings, *args) for args in prepared]
    failures = [run.exception() for run in runs]
    live = isvc(namespace)["metadata"]["annotations"]["digits/release"]
    assert served(namespace) == live
    succeeded = [
        manifest["version"] for (manifest, _), failure in zip(prepared, failures, strict=True) if failure is None
    ]
    assert live in succeeded
    for failure in filter(None, failures):
        assert isinstance(failure, EndpointError)
        assert "overtaken" in str(failure)


@contextlib.contextmanager
def through_a_proxy(namespace: Namespace, home: Path) -> Iterator[tuple[Settings, FaultyProxy]]:
    """Yield settings that reach the namespace's API server through a proxy, and that proxy."""
    config = yaml.safe_load(kubeconfig_path(namespace.settings).read_text())
    cluster = config["clusters"][0]["cluster"]
    with faulty_proxy(cluster["server"].removeprefix("https://")) as between:
        cluster["server"] = f"https://{between.address}"
        settings = dataclasses.replace(namespace.settings, home=home)
        kubeconfig_path(settings).write_text(yaml.safe_dump(config))
        yield settings, between


@pytest.mark.parametrize("outage", ["short", "permanent"])
def test_the_api_server_is_cut_off_during_a_deployment(
    namespace: Namespace, small_releases: list[Release], tmp_path: Path, outage: str
) -> None:
    """A deployment survives a short outage; after a long one the error says what was not undone, and the next works."""
    first, second = small_releases
    rollout.deploy(namespace.settings, *namespace.publish(first))
    manifest, uri = namespace.publish(second)
    with through_a_proxy(namespace, tmp_path) as (settings, between), concurrent.futures.ThreadPoolExecutor() as pool:
        deadline = time.monotonic() + 60
        seconds = 20.0 if outage == "permanent" else 120.0
        deployed = pool.submit(rollout.deploy, settings, manifest, uri, seconds=seconds)
        while isvc(namespace)["metadata"]["annotations"]["digits/release"] != second.version:
            assert time.monotonic() < deadline, "it was not applied"
            time.sleep(0.1)
        between.cut()
        if outage == "permanent":
            with pytest.raises(EndpointError, match=r"did not answer.* could not be restored") as failure:
                deployed.result(120)
            print(failure.value)
        else:
            time.sleep(5)
            between.restore()
            deployed.result(180)
    assert served(namespace) in {first.version, second.version}
    rollout.deploy(namespace.settings, manifest, uri)
    assert served(namespace) == second.version


def test_the_account_of_the_deploy_step_permits_nothing_else(namespace: Namespace) -> None:
    """The account by which `test_pipeline_pods` deploys may not read Secrets, delete pods or patch other services."""
    who = f"--as=system:serviceaccount:{namespace.name}:digits-deployer"
    assert namespace.kubectl("auth", "can-i", "patch", "inferenceservices/digits", who).strip() == "yes"
    for question in (("get", "secrets"), ("delete", "pods"), ("patch", "inferenceservices/other")):
        with pytest.raises(ProgramError, match="no"):
            namespace.kubectl("auth", "can-i", *question, who)


def set_secret(namespace: Namespace, encoded: str) -> None:
    patch = json.dumps({"data": {"AWS_SECRET_ACCESS_KEY": encoded}})
    namespace.kubectl("patch", "secret", "minio-kserve-secret", "--type=merge", f"--patch={patch}")


def run_pod(namespace: Namespace, name: str, command: list[str], *, labels: dict[str, str] = STEP) -> None:
    """Start a pod of the predictor's image under the restricted standard."""
    context = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    spec = {
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": name,
                "image": namespace.predictor_image,
                "imagePullPolicy": "IfNotPresent",
                "command": command,
                "env": [{"name": "K8S_NAMESPACE", "value": namespace.name}, {"name": "HOME", "value": "/tmp"}],
                "securityContext": context,
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
            }
        ],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}
    namespace.kube.request("POST", f"/api/v1/namespaces/{namespace.name}/pods", body=body)


def finished(namespace: Namespace, name: str) -> str:
    """Return the output of a pod after it has succeeded."""
    path = f"/api/v1/namespaces/{namespace.name}/pods/{name}"
    deadline = time.monotonic() + 180
    phase = ""
    while phase not in {"Succeeded", "Failed"} and time.monotonic() < deadline:
        time.sleep(1)
        phase = namespace.kube.request("GET", path)["status"]["phase"]
    text = namespace.kube.text(f"{path}/log")
    assert phase == "Succeeded", f"pod {name} is {phase}:\n{text}"
    return text.strip()


def start_load(namespace: Namespace) -> None:
    run_pod(namespace, "load", ["python", "-c", LOAD.read_text(), "http://digits-predictor"])
    namespace.kubectl("wait", "--for=condition=Ready", "pod/load", "--timeout=60s")


def stop_load(namespace: Namespace) -> dict[str, Any]:
    namespace.kubectl("exec", "load", "--", "touch", "/tmp/stop")
    return dict(json.loads(finished(namespace, "load")))

"""The pipeline as Kubeflow gets it, step by step as real pods on the cluster, up to a served InferenceService."""

from __future__ import annotations

import dataclasses
import json
import uuid
from typing import Any

import numpy as np
import pytest

from backends.docker import containers, images
from backends.kind.namespace import credentials
from backends.kind.node_images import load
from backends.kserve import rollout
from backends.kubeflow.submit import compiled
from backends.kubeflow.watch import events_of
from digits.data import corrections
from digits.http import request_json
from digits.release import ledger
from digits.settings import Settings
from digits.store.s3 import S3Store
from pipeline import STEPS
from tests.helpers import canary
from tests.helpers.cluster_fixtures import MNIST, NAME, Namespace, Release
from tests.helpers.kfp_pods import Driver, StepError

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(2400)]
ACCOUNT = "digits-deployer"
# Everything in a namespace but its Secrets.
OBJECTS = (
    "pods,deployments,replicasets,services,configmaps,serviceaccounts,roles,rolebindings,networkpolicies,events,"
    "inferenceservices,servingruntimes"
)


@pytest.fixture(scope="session")
def steps_image(cluster_settings: Settings) -> str:
    """The image of the steps, in the cluster's node."""
    image = images.ensure(containers.connect(), Settings.load(dotenv=None), "steps", print)
    load([image], NAME, print)
    return image


@pytest.fixture
def driver(namespace: Namespace, steps_image: str) -> Driver:
    """A run of the pipeline as `digits submit` compiles it for this namespace."""
    settings = dataclasses.replace(namespace.settings, steps_image=steps_image)
    client: Any = namespace.store._client
    client.make_bucket("mlpipeline")  # Kubeflow's own, in which artifacts travel
    root, run_id = S3Store(client, "mlpipeline", "v2"), f"run-{uuid.uuid4().hex[:6]}"
    return Driver(compiled(settings), run_id, namespace.kubectl, root, ACCOUNT, {"epochs": 1})


def serve_mnist(namespace: Namespace) -> None:
    """Put MNIST's files where the steps find them: in the cluster's object store, readable by anybody."""
    client: Any = namespace.store._client
    client.make_bucket("mnist")
    for file in MNIST.glob("*.gz"):
        client.fput_object("mnist", file.name, str(file))
    allowed = {"Effect": "Allow", "Principal": {"AWS": ["*"]}, "Action": ["s3:GetObject"]}
    policy = {"Version": "2012-10-17", "Statement": [allowed | {"Resource": ["arn:aws:s3:::mnist/*"]}]}
    client.set_bucket_policy("mnist", json.dumps(policy))
    patch = json.dumps({"data": {"DIGITS_DATA": "http://minio:9000/mnist"}})
    namespace.kubectl("patch", "configmap", "digits-settings", "--type=merge", f"--patch={patch}")


def test_the_compiled_pipeline_ends_in_a_served_model(namespace: Namespace, driver: Driver, digits_images: Any) -> None:
    """Seven pods under the restricted standard train on MNIST, release, and serve what recognises unseen digits."""
    serve_mnist(namespace)
    keys = credentials(namespace.settings)
    assert keys is not None
    # kind's node is a container of this machine, so that the processes of its pods are seen.
    with canary.CommandLines(keys) as listed, canary.CommandLines(["--executor_input"]) as steps:
        made = driver.run()
    assert steps.seen
    assert listed.seen == set()

    assert set(made) == set(STEPS)
    facts = made["publish"]["facts"]
    assert (facts["promoted"], made["fetch-mnist"]["facts"]["dataset"]) == (True, "mnist")
    assert made["collect-feedback"]["facts"]["digest"] == feedback_digest(namespace)
    assert ledger.champion(namespace.store) == facts["version"]
    (told,) = [event for event in events_of(driver.logs["deploy"], "deploy") if event["event"] == "outputs"]
    assert told["outputs"]["published"]["version"] == facts["version"]
    assert told["outputs"]["deployed"] == made["deploy"]["facts"]
    assert any(event["event"] == "progress" for event in events_of(driver.logs["train"], "train"))

    images_, labels = digits_images[0][:100], digits_images[1][:100]
    with rollout.connected(namespace.settings) as url:
        about = request_json(f"{url}/v2/models/digits")["parameters"]
        answer = request_json(f"{url}/v1/models/digits:predict", {"instances": (images_ / 255).tolist()})
    found = np.argmax(answer["predictions"], axis=1)
    print("predictions", found.tolist(), "labels", labels.tolist(), f"accuracy {facts['accuracy']:.2%}")
    assert about["release"] == facts["version"]
    assert np.mean(found == labels) > 0.9
    secrets_stay_secret(namespace, driver)


def secrets_stay_secret(namespace: Namespace, driver: Driver) -> None:
    """After all that, the store's keys are in Secrets alone: in no other object, no log and no artifact."""
    keys = credentials(namespace.settings)
    assert keys is not None
    objects = namespace.kubectl("get", OBJECTS, "--output=json")
    assert '"kind": "InferenceService"' in objects
    assert not canary.holds(objects.encode(), keys)
    assert driver.logs["train"]
    assert not canary.holds(json.dumps(driver.logs).encode(), keys)
    for store in (namespace.store, driver.store):
        found = store.keys()
        assert found
        assert [key for key in found if canary.holds(store.get(key), keys)] == []


def feedback_digest(namespace: Namespace) -> str:
    """The digest of no corrections, by the code that the step runs."""
    from digits.data.dataset import empty

    assert len(corrections.collect(namespace.store, limit=10)) == 0
    return empty().digest()


def test_the_pods_hold_no_secret(namespace: Namespace, driver: Driver) -> None:
    """Credentials are references in the pods, and in no value; the namespace enforces the restricted standard."""
    keys = credentials(namespace.settings)
    assert keys is not None
    bodies = json.dumps([driver.pod(step) for step in ("fetch-mnist", "collect-feedback")])
    assert not any(key in bodies for key in keys)
    labels = json.loads(namespace.kubectl("get", "namespace", namespace.name, "--output=json"))["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_wrong_credentials_are_named_by_the_step(namespace: Namespace, driver: Driver) -> None:
    """A Secret with another password fails the first step that needs the store, in our words."""
    patch = json.dumps({"stringData": {"AWS_SECRET_ACCESS_KEY": "wrong-" + "x" * 20}})
    namespace.kubectl("patch", "secret", "minio-kserve-secret", "--type=merge", f"--patch={patch}")
    with pytest.raises(StepError) as raised:
        driver.step("collect-feedback")
    (told,) = [e for e in events_of(str(raised.value), "collect-feedback") if e["event"] == "failed"]
    assert "SignatureDoesNotMatch" in told["cause"]
    assert "MINIO_SECRET_KEY" in told["remedy"]
    access, _ = credentials(namespace.settings) or ("", "")
    assert not canary.holds(str(raised.value).encode(), (access, "wrong-" + "x" * 20))


def test_an_account_without_rights_deploys_nothing(
    namespace: Namespace, driver: Driver, small_releases: list[Release]
) -> None:
    """The deploy step needs the rights of manifests/base/rbac.yaml; without them it says so, with them it serves."""
    manifest, _ = namespace.publish(small_releases[0])
    facts = {"facts": {}, "champion": manifest["version"]}
    for step in ("fetch-mnist", "collect-feedback", "train", "publish"):
        driver.outputs[step] = {"parameterValues": facts, "artifacts": {}}
    driver.account = "default"
    with pytest.raises(StepError) as raised:
        driver.step("deploy")
    (told,) = [e for e in events_of(str(raised.value), "deploy") if e["event"] == "failed"]
    assert "rbac.yaml" in told["remedy"]
    assert namespace.kubectl("get", "inferenceservices", "--output=name") == ""

    namespace.kubectl("delete", "pod", f"{driver.run_id}-deploy")
    driver.account = ACCOUNT
    driver.step("deploy")
    assert driver.outputs["deploy"]["parameterValues"]["facts"]["version"] == manifest["version"]
    with rollout.connected(namespace.settings) as url:
        assert request_json(f"{url}/v2/models/digits")["parameters"]["release"] == manifest["version"]

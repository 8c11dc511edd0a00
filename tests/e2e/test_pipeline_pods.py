"""The pipeline as compiled for Kubeflow, run step by step in real pods, up to a served InferenceService."""

from __future__ import annotations

import dataclasses
import json
import uuid
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from backends.kind.namespace import credentials
from backends.kserve import rollout
from backends.kubeflow.submit import compiled
from backends.kubeflow.watch import events_of
from digits.data import corrections
from digits.http import request_json
from digits.release import ledger
from digits.serving import batch_prediction, batch_steps
from digits.store.s3 import S3Store
from digits.tasks.task import find
from pipeline import BATCH_STEPS, STEPS, batch_definition
from tests.helpers import canary
from tests.helpers.cluster_fixtures import MNIST, Namespace, Release
from tests.helpers.kfp_pods import Driver, Json, StepError

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(2400)]
ACCOUNT = "digits-deployer"
# All objects of a namespace except its Secrets.
OBJECTS = (
    "pods,deployments,replicasets,services,configmaps,serviceaccounts,roles,rolebindings,networkpolicies,events,"
    "inferenceservices,servingruntimes"
)


def run_of(namespace: Namespace, steps_image: str, parameters: Json, of: Any = None) -> Driver:
    """Return a run of a definition, by default the pipeline, as it is compiled for this namespace."""
    settings = dataclasses.replace(namespace.settings, steps_image=steps_image)
    client: Any = namespace.store._client
    client.make_bucket("mlpipeline")  # Kubeflow's bucket for artifacts
    root, run_id = S3Store(client, "mlpipeline", "v2"), f"run-{uuid.uuid4().hex[:6]}"
    return Driver(compiled(settings, of=of), run_id, namespace.kubectl, root, ACCOUNT, parameters)


@pytest.fixture
def driver(namespace: Namespace, steps_image: str) -> Driver:
    """Return a run of the pipeline."""
    return run_of(namespace, steps_image, {"epochs": 1})


def serve_mnist(namespace: Namespace) -> None:
    """Put MNIST's files into a public bucket of the cluster's store, and set DIGITS_DATA to its address."""
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
    """Seven restricted pods train on MNIST, release and serve a model that recognises unseen digits."""
    serve_mnist(namespace)
    keys = credentials(namespace.settings)
    assert keys is not None
    # kind's node is a container of this machine, so the processes of its pods are visible.
    with canary.CommandLines([*keys, "--executor_input"]) as listed:
        outputs = driver.run()
    assert listed.seen
    assert [line for line in listed.seen if canary.holds(line.encode(errors="surrogateescape"), keys)] == []

    assert set(outputs) == set(STEPS)
    published = outputs["publish"]["published"]
    assert (published["promoted"], outputs["fetch-mnist"]["data"]["dataset"]) == (True, "mnist")
    assert outputs["collect-feedback"]["feedback"]["digest"] == feedback_digest(namespace)
    assert ledger.champion(namespace.store) == published["version"]
    (event,) = [event for event in events_of(driver.logs["deploy"], "deploy") if event["event"] == "outputs"]
    assert event["outputs"]["published"]["version"] == published["version"]
    assert event["outputs"]["deployed"] == outputs["deploy"]["deployed"]
    assert any(event["event"] == "progress" for event in events_of(driver.logs["train"], "train"))

    images_, labels = digits_images[0][:100], digits_images[1][:100]
    with rollout.connected(namespace.settings) as url:
        about = request_json(f"{url}/v2/models/digits")["parameters"]
        answer = request_json(f"{url}/v1/models/digits:predict", {"instances": (images_ / 255).tolist()})
    classes = np.argmax(answer["predictions"], axis=1)
    print("predictions", classes.tolist(), "labels", labels.tolist(), f"accuracy {published['accuracy']:.2%}")
    assert about["release"] == published["version"]
    assert np.mean(classes == labels) > 0.9
    secrets_stay_secret(namespace, driver)


def secrets_stay_secret(namespace: Namespace, driver: Driver) -> None:
    """Check that the store's keys are only in Secrets: in no other object, no log and no artifact."""
    keys = credentials(namespace.settings)
    assert keys is not None
    objects = namespace.kubectl("get", OBJECTS, "--output=json")
    assert '"kind": "InferenceService"' in objects
    assert not canary.holds(objects.encode(), keys)
    assert driver.logs["train"]
    assert not canary.holds(json.dumps(driver.logs).encode(), keys)
    for store in (namespace.store, driver.store):
        keys_of_store = store.keys()
        assert keys_of_store
        assert [key for key in keys_of_store if canary.holds(store.get(key), keys)] == []


def feedback_digest(namespace: Namespace) -> str:
    """Return the digest of an empty set of corrections, by the code that the step runs."""
    from digits.data.dataset import empty

    assert len(corrections.collect(namespace.store, limit=10)) == 0
    return empty().digest()


def test_the_pods_hold_no_secret(namespace: Namespace, driver: Driver) -> None:
    """Pods refer to credentials and contain none; the namespace enforces the restricted standard."""
    keys = credentials(namespace.settings)
    assert keys is not None
    bodies = json.dumps([driver.pod(step) for step in ("fetch-mnist", "collect-feedback")])
    assert not any(key in bodies for key in keys)
    labels = json.loads(namespace.kubectl("get", "namespace", namespace.name, "--output=json"))["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_an_account_without_rights_deploys_nothing(
    namespace: Namespace, driver: Driver, small_releases: list[Release]
) -> None:
    """Without the permissions of manifests/base/rbac.yaml the deploy step fails and names them; with them it serves."""
    manifest, _ = namespace.publish(small_releases[0])
    ledger.promote(namespace.store, manifest["version"], "a test")
    steps = {"fetch-mnist": "data", "collect-feedback": "feedback", "train": "trained", "publish": "published"}
    task = {"task": find("digits").text()}
    for step, output in steps.items():
        driver.outputs[step] = {"parameterValues": {output: task if output == "data" else {}}, "artifacts": {}}
    driver.account = "default"
    with pytest.raises(StepError) as raised:
        driver.step("deploy")
    (event,) = [e for e in events_of(str(raised.value), "deploy") if e["event"] == "failed"]
    assert "rbac.yaml" in event["remedy"]
    assert namespace.kubectl("get", "inferenceservices", "--output=name") == ""

    namespace.kubectl("delete", "pod", f"{driver.run_id}-deploy")
    driver.account = ACCOUNT
    driver.step("deploy")
    assert driver.outputs["deploy"]["parameterValues"]["deployed"]["version"] == manifest["version"]
    with rollout.connected(namespace.settings) as url:
        assert request_json(f"{url}/v2/models/digits")["parameters"]["release"] == manifest["version"]


def test_several_pods_share_a_batch(
    namespace: Namespace, steps_image: str, small_releases: list[Release], tmp_path: Path
) -> None:
    """Four restricted pods share 60,000 pictures in the cluster's store, and write the bytes of `digits batch`."""
    manifest, _ = namespace.publish(small_releases[0])
    ledger.promote(namespace.store, manifest["version"], "a test")
    pictures, client = MNIST / "train-images-idx3-ubyte.gz", cast(Any, namespace.store)._client
    client.make_bucket("pictures")
    client.fput_object("pictures", pictures.name, str(pictures))
    places = {"pictures": f"s3://pictures/{pictures.name}", "output": "s3://answers/train"}
    driver = run_of(namespace, steps_image, places, batch_definition.build)
    driver.run()

    here = (namespace.settings, namespace.store, str(pictures), str(tmp_path), "")
    with batch_steps.opened(*here) as (model, batch, store):
        expected = batch_prediction.predict_batch(model, batch, store)
    output = S3Store(client, "answers", "train")
    written = {key: output.get(key) for key in output.keys("") if not key.startswith("probes/")}
    assert written == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    last = BATCH_STEPS[-1]
    shares = [name for name, log in driver.logs.items() if "20000 of 20000" in log and name != last]
    assert (len(expected["parts"]), len(shares)) == (3, 3)
    (event,) = [event for event in events_of(driver.logs[last], last) if event["event"] == "outputs"]
    assert event["outputs"] == expected

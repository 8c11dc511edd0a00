"""A TrainJob that succeeds, fails, or disappears."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import yaml

from backends.kserve.kube import Kube
from backends.trainer import trainjob
from backends.trainer.trainjob import PORT, QUEUE, RUNTIME, TrainJob, hosts, train_job
from digits.errors import DigitsError, MissingError
from digits.events import EventLog
from digits.settings import Settings
from tests.helpers.kubernetes_api import Json, TrainerApi, container, finish, set_condition, worker
from tests.helpers.support import ROOT

OWNER = {"name": "step", "uid": "1-2"}
SETTINGS = Settings(workers=2, train_gpus=1, train_cpu_request="1", train_node="pool=gpu", train_queue="night")
BODY = train_job(SETTINGS, "train-1", ["python"], image="steps:1", owner=OWNER)


@pytest.fixture
def job(cluster: Settings) -> TrainJob:
    """Return a TrainJob that was created."""
    created = TrainJob(Kube.connect(cluster), "digits", "train-1")
    created.create(BODY)
    return created


def shown(tmp_path: Path) -> list[str]:
    """Return the texts of the progress."""
    return [event["text"] for event in EventLog(tmp_path / "events").read_new()]


def test_worker_0_reports_the_epochs(job: TrainJob, tmp_path: Path) -> None:
    """Each epoch of worker 0 is shown once, also those after the workers were started again."""

    def log(*epochs: str, attempt: int = 0) -> None:
        lines = [{"event": "progress", "step": "train", "time": n + 1, "text": text} for n, text in enumerate(epochs)]
        TrainerApi.log = "\n".join(["a warning", *map(json.dumps, lines)])
        TrainerApi.pods = [worker(0, attempt), worker(1, attempt)]

    TrainerApi.changes += [partial(log, "epoch 1"), partial(log, "epoch 1", "epoch 2"), lambda: None]
    TrainerApi.changes += [partial(log, "epoch 3", attempt=1), partial(finish, "the digest", attempt=1)]
    assert job.wait() == "the digest"
    assert shown(tmp_path) == ["epoch 1", "epoch 2", "the workers were started again (1)", "epoch 3"]


def test_a_container_that_a_webhook_added_does_not_matter(job: TrainJob) -> None:
    """The digest is that of the training's container, whichever place it has in the pod."""

    def end() -> None:
        finish("the digest")
        states = TrainerApi.pods[0]["status"]["containerStatuses"]
        states.insert(0, container("vault-agent", terminated={"exitCode": 0}))

    TrainerApi.changes += [end]
    assert job.wait() == "the digest"


def test_a_failure_has_the_reason_of_the_worker(job: TrainJob, tmp_path: Path) -> None:
    """If the workers failed too often, the error has the last output of one, although JobSet has deleted its pod."""
    ended = {"terminated": {"exitCode": 1, "message": "Traceback (most recent call last):\n  File x\nKeyError: 'why'"}}

    def fail() -> None:
        TrainerApi.pods = [worker(1, phase="Failed", containerStatuses=[container("node", **ended)])]

    TrainerApi.changes += [fail, TrainerApi.pods.clear, partial(set_condition, "Failed", "max number of restarts")]
    with pytest.raises(DigitsError, match=r"(?s)max number of restarts.*worker 1: .*KeyError: 'why'"):
        job.wait()
    assert shown(tmp_path) == ["worker 1: node ended with 1: KeyError: 'why'"]


def test_a_deleted_training_fails(job: TrainJob) -> None:
    """If someone deletes the TrainJob, the step ends with an error."""
    TrainerApi.changes += [lambda: None, lambda: setattr(TrainerApi, "live", None)]
    with pytest.raises(DigitsError, match="train-1 in digits was deleted"):
        job.wait()


def test_workers_that_can_never_start_fail(job: TrainJob) -> None:
    """An image that cannot be pulled ends the wait."""
    TrainerApi.pods = [
        worker(phase="Pending", containerStatuses=[container("node", waiting={"reason": "ImagePullBackOff"})])
    ]
    with pytest.raises(DigitsError, match=r"(?s)cannot start.*ImagePullBackOff"):
        job.wait()


@pytest.mark.parametrize(("status", "error"), [(404, "has no Kubeflow Trainer"), (403, "manifests/components/trainer")])
def test_a_refused_training_leaves_nothing(job: TrainJob, status: int, error: str) -> None:
    """A missing Trainer and a missing TrainingRuntime are named, and there is nothing to delete."""
    job.delete()
    TrainerApi.refusal = status
    with pytest.raises(MissingError) as refused:
        job.create(BODY)
    assert error in str(refused.value)
    job.delete()
    assert TrainerApi.live is None


def test_a_deletion_ends_with_the_pods(job: TrainJob) -> None:
    """Deleting waits until the TrainJob is gone, and may be repeated."""
    job.delete()
    assert TrainerApi.live is None
    job.delete()


def test_an_outage_ends_no_training(job: TrainJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait survives an API server that does not answer for a while, and ends after OUTAGE_SECONDS."""

    def request(*_: object, **__: object) -> Json:
        raise MissingError("away", remedy="wait")

    monkeypatch.setattr(trainjob, "OUTAGE_SECONDS", 0.1)
    monkeypatch.setattr(job.kube, "request", request)
    with pytest.raises(MissingError, match="away"):
        job.wait()


def test_the_training_fits_the_runtime() -> None:
    """The TrainJob names the runtime, the port and the accounts of the manifests."""
    folder = ROOT / "manifests/components/trainer"
    runtime = yaml.safe_load((folder / "training-runtime.yaml").read_text())
    policy = yaml.safe_load((folder / "network-policy.yaml").read_text())
    (node,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    pod = node["template"]["spec"]["template"]
    assert (runtime["metadata"]["name"], node["name"]) == (RUNTIME, "node")
    assert hosts("train-1", 2) == [f"train-1-node-0-0.train-1:{PORT}", f"train-1-node-0-1.train-1:{PORT}"]
    assert pod["spec"]["containers"][0]["ports"][0]["containerPort"] == PORT
    assert policy["spec"]["ingress"][0]["ports"] == [{"port": PORT, "protocol": "TCP"}]
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()


def test_the_settings_of_the_training_reach_the_workers() -> None:
    """Number, image, resources and node of the workers, Kueue's queue and the owner are set."""
    spec, metadata = BODY["spec"], BODY["metadata"]
    assert (spec["trainer"]["numNodes"], spec["trainer"]["image"]) == (2, "steps:1")
    resources = spec["trainer"]["resourcesPerNode"]
    assert (resources["requests"]["cpu"], resources["limits"]["nvidia.com/gpu"]) == ("1", "1")
    assert '"nodeSelector": {"pool": "gpu"}' in json.dumps(spec["runtimePatches"])
    assert metadata["labels"][QUEUE] == "night"
    assert metadata["ownerReferences"] == [{"apiVersion": "v1", "kind": "Pod", **OWNER}]
    plain = train_job(Settings(), "train-1", ["python"], image="", owner=OWNER)
    assert QUEUE not in plain["metadata"]["labels"]
    assert (plain["spec"]["trainer"]["numNodes"], "image" in plain["spec"]["trainer"]) == (1, False)

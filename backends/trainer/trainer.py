"""The trainer `trainjob`: the workers of a training are pods that a TrainJob of Kubeflow Trainer starts.

Inputs and result pass through the object store, in a folder next to the checkpoints of the training:

    trainings/<task>/<key>/<uid of the step's pod>/job/…
    trainings/<task>/<key>/<uid of the step's pod>/output/…
    trainings/<task>/<key>/<uid of the step's pod>/alive
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from backends.kserve.kube import Kube
from backends.trainer.heartbeat import beating
from backends.trainer.trainjob import TrainJob, hosts, train_job
from backends.trainer.transfer import get_folder, put_folder
from digits import events
from digits.errors import DigitsError, StoreError, UsageError
from digits.settings import IMAGE_VARIABLE, Settings
from digits.store import ObjectStore, get_scheme, open_store
from digits.training import checkpoints, trainers

if TYPE_CHECKING:
    from digits.results import TrainedModel
    from digits.training.job import Job

IDLE_SECONDS = 3600.0  # many times the heartbeat's period, because the store's clock may differ
OWNER = {"name": "KFP_POD_NAME", "uid": "KFP_POD_UID"}  # variables that Kubeflow sets in each step


def train(settings: Settings, job: Job) -> TrainedModel:
    """Train in pods of the cluster in which this step runs.

    Raises:
        UsageError: this is no step on Kubeflow, or its store is not reachable from other pods.
        MissingError: the cluster has no Kubeflow Trainer, or does not answer.
        DigitsError: the training failed, or its TrainJob was deleted; or the cluster or the store refused.
    """
    owner = {key: os.environ.get(variable, "") for key, variable in OWNER.items()}
    if not all(owner.values()):
        raise UsageError(
            f"DIGITS_TRAINER=trainjob: expected a step on Kubeflow, which has {' and '.join(OWNER.values())}",
            remedy="digits run --backend kubeflow, or unset DIGITS_TRAINER",
        )
    if not get_scheme(settings.store).remote:
        raise UsageError(
            f"DIGITS_TRAINER=trainjob: expected a store that all pods reach, such as s3://a, got {settings.store}",
            remedy="set DIGITS_STORE",
        )
    store, kube, workers = open_store(settings), Kube.connect(settings), max(1, settings.workers)
    training = checkpoints.folder(store, job.key)
    place, name = f"{training}{owner['uid']}", f"train-{owner['uid']}"
    run = TrainJob(kube, settings.namespace, name)
    try:
        job.save()
        digest = put_folder(store, f"{place}/job", job.folder)
        command = ["python", "-P", "-m", "backends.trainer.worker_main", place, digest, *hosts(name, workers)]
        with beating(store, f"{place}/alive"):
            run.create(train_job(settings, name, command, image=os.environ.get(IMAGE_VARIABLE, ""), owner=owner))
            events.emit("progress", "train", text=f"TrainJob {name}, workers: {workers}")
            digest = _wait(run, store, place, job)
        get_folder(store, f"{place}/output", digest, job.output)
    finally:
        run.delete()
        with contextlib.suppress(DigitsError):  # what stays is removed after the next training of these inputs
            _remove(store, training, owner["uid"])
    return job.result()


def _wait(run: TrainJob, store: ObjectStore, place: str, job: Job) -> str:
    """Return the digest of the result. Raises the error of a worker, if it left one, or as TrainJob.wait."""
    try:
        return run.wait()
    except DigitsError:
        with contextlib.suppress(StoreError):  # the workers left no error of ours
            store.download(f"{place}/error.json", job.folder / "error.json")
            trainers.raise_error(job)
        raise


def _remove(store: ObjectStore, training: str, uid: str) -> None:
    """Delete the folder of the step `uid`, and those of steps that were killed: without a heartbeat for IDLE_SECONDS.

    A step in another namespace may train with the same inputs in the same store.
    """
    keys, idle = store.keys(training), set(store.keys(training, min_age=IDLE_SECONDS))
    used = {_folder(key, training) for key in keys if key not in idle} - {uid}
    for key in keys:
        if (folder := _folder(key, training)) and folder not in used:
            store.delete(key)


def _folder(key: str, training: str) -> str:
    """Return the name of the folder of a step in which an object is, '' if it is in none, as a checkpoint."""
    return key.removeprefix(training).rpartition("/")[0].partition("/")[0]

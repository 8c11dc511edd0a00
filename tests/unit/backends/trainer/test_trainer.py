"""The trainer that creates a TrainJob, and its use of the object store."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from backends.trainer import trainer
from backends.trainer.transfer import get_folder, put_folder
from digits.errors import DigitsError, UsageError
from digits.results import PreparedData, TrainedModel
from digits.settings import Settings
from digits.store import open_store
from digits.tasks.task import find
from digits.training.job import Job
from digits.training.recipe import TrainingConfig
from tests.helpers.engines import wait_until
from tests.helpers.kubernetes_api import TrainerApi, finish, set_condition, worker

RESULT = TrainedModel("weights", "files", 1, 2.5, 1.5, {"epochs": 3}, "code", {})


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Return a job of a step on Kubeflow, whose store all pods reach."""
    monkeypatch.setenv("KFP_POD_NAME", "step")
    monkeypatch.setenv("KFP_POD_UID", "1-2")
    monkeypatch.setattr(trainer, "get_scheme", lambda _: SimpleNamespace(remote=True))
    prepared = PreparedData("a", "b", "c", 0, are_digits=True, task=find("digits").text())
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "train_set").write_bytes(b"images")
    return Job(folder, TrainingConfig(), prepared, "code")


def work(settings: Settings, folder: Path) -> str:
    """Do what the pod of worker 0 does, with the arguments in the TrainJob. Return the digest of the result."""
    assert TrainerApi.live
    place, digest, *_ = TrainerApi.live["spec"]["trainer"]["command"][4:]
    store = open_store(settings)
    get_folder(store, f"{place}/job", digest, folder)
    assert {path.name for path in folder.iterdir()} == {"job.json", "train_set"}
    (folder / "output").mkdir()
    (folder / "output/trained.json").write_text(json.dumps(asdict(RESULT)))
    return put_folder(store, f"{place}/output", folder / "output")


def test_the_result_of_worker_0_is_returned(cluster: Settings, job: Job, tmp_path: Path) -> None:
    """Inputs and result pass through the store; of steps that have ended nothing is left, of others everything."""
    store, training = open_store(cluster), f"trainings/digits/{job.key}"
    hours = time.time() - 2 * trainer.IDLE_SECONDS
    for key in ("killed/job.json", "elsewhere/job.json", "elsewhere/alive", "checkpoint-0001.json"):
        store.put(f"{training}/{key}", b"{}")
        if not key.endswith("alive"):
            os.utime(tmp_path / "store" / training / key, (hours, hours))
    TrainerApi.pods = [worker()]
    alive: list[bool] = []
    TrainerApi.changes += [
        lambda: alive.append(wait_until(lambda: store.exists(f"{training}/1-2/alive"), seconds=10)),
        lambda: finish(work(cluster, tmp_path / "pod")),
    ]
    assert trainer.train(cluster, job) == RESULT
    assert (alive, TrainerApi.live) == ([True], None)
    kept = ["checkpoint-0001.json", "elsewhere/alive", "elsewhere/job.json"]
    assert store.keys("trainings/") == [f"{training}/{key}" for key in kept]


def test_another_result_than_the_pods_is_refused(cluster: Settings, job: Job, tmp_path: Path) -> None:
    """Files that someone else wrote to the store are not read."""

    def replace() -> None:
        work(cluster, tmp_path / "pod")
        finish("0" * 64)

    TrainerApi.changes += [replace]
    with pytest.raises(DigitsError, match="is damaged"):
        trainer.train(cluster, job)
    assert open_store(cluster).keys("trainings/") == []


def test_a_result_without_a_digest_is_refused(cluster: Settings, job: Job, tmp_path: Path) -> None:
    """If the pod that has the digest is gone, nothing is read from the store, where anyone may have written it."""

    def vanish() -> None:
        finish(work(cluster, tmp_path / "pod"))
        TrainerApi.pods = []

    TrainerApi.changes += [vanish]
    with pytest.raises(DigitsError, match="the pod of worker 0, which has the digest of its result, is gone"):
        trainer.train(cluster, job)


def test_the_error_of_a_worker_is_raised(cluster: Settings, job: Job) -> None:
    """An error of ours in a worker is the error of the step."""

    def fail() -> None:
        error = {"kind": "UsageError", "message": "no optimizer x", "remedy": "use adam"}
        open_store(cluster).put(f"trainings/digits/{job.key}/1-2/error.json", json.dumps(error).encode())
        set_condition("Failed", "PodFailurePolicy")

    TrainerApi.changes += [fail]
    with pytest.raises(UsageError, match="no optimizer x") as raised:
        trainer.train(cluster, job)
    assert raised.value.remedy == "use adam"
    assert (TrainerApi.live, open_store(cluster).keys("trainings/")) == (None, [])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda patch: patch.delenv("KFP_POD_UID"), "a step on Kubeflow"),
        (lambda patch: patch.setattr(trainer, "get_scheme", lambda _: SimpleNamespace(remote=False)), "all pods reach"),
    ],
)
def test_a_training_that_no_pod_could_do_is_refused(
    cluster: Settings,
    job: Job,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[pytest.MonkeyPatch], None],
    expected: str,
) -> None:
    """Outside of Kubeflow, and with a store of this machine, nothing is created."""
    change(monkeypatch)
    with pytest.raises(UsageError, match=expected):
        trainer.train(cluster, job)
    assert TrainerApi.live is None

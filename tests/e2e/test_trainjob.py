"""The train step with several workers, as a TrainJob of Kubeflow Trainer."""

from __future__ import annotations

import dataclasses
import subprocess
import threading
import time
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from backends.kind.controllers import install_trainer
from backends.kind.namespace import PREDICTOR_IMAGE, install
from backends.kubeflow.submit import compiled
from backends.kubeflow.watch import events_of
from backends.programs import python
from digits.data.block_index import Block, Index
from digits.data.dataset import Dataset
from digits.data.stored_blocks import StoredBlocks
from digits.results import PreparedData
from digits.settings import Settings
from digits.store import ObjectStore, open_store
from digits.store.s3 import S3Store
from digits.tasks.task import find
from digits.training.job import Job
from digits.training.recipe import TrainingConfig
from tests.helpers.cluster_fixtures import NAME, Namespace
from tests.helpers.engines import wait_until
from tests.helpers.kfp_pods import Driver
from tests.helpers.support import child_environment

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]
ACCOUNT = "digits-deployer"
PARAMETERS: dict[str, Any] = {"epochs": 3, "shards": 8}
WORKERS = "jobset.sigs.k8s.io/jobset-name"  # a label of the workers' pods


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Small sets for a training, whose training images are two blocks."""

    folder: Path
    blocks: list[Dataset]
    described: PreparedData

    @property
    def files(self) -> dict[str, Path]:
        return {name: self.folder / name for name in ("train_set", "validation_set")}

    def store(self, store: ObjectStore) -> None:
        """Write the blocks of the training set to an object store."""
        for number, block in enumerate(self.blocks):
            StoredBlocks(store).add(str(number), block, block[:0])


@pytest.fixture(scope="module")
def prepared(digits_images: Any, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("prepared")
    images, labels = digits_images
    parts = [Dataset(images[start : start + 2000], labels[start : start + 2000]) for start in (0, 2000)]
    known = tuple(Block(len(part), part.digest()) for part in parts)
    index = Index((28, 28), known, tuple(f"blocks/digits/{number}/train.npz" for number in range(2)))
    index.write(folder / "train_set")
    validation = Dataset(images[4000:5000], labels[4000:5000]).save(folder / "validation_set")
    described = PreparedData(index.digest(), validation, validation, 0, are_digits=True, task=find("digits").text())
    return Prepared(folder, parts, described)


@pytest.fixture(scope="module")
def reference(cluster_settings: Settings, prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the digest of the weights that one local worker trains, while Kubeflow Trainer starts in the cluster."""
    job = Job(prepared.folder, TrainingConfig(**PARAMETERS), prepared.described, "code")
    job.save()
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    prepared.store(open_store(settings))
    environment = child_environment(settings)
    command = python("-m", "digits.training.worker", str(job.folder))
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) as worker:
        install_trainer(cluster_settings, NAME, print)
        assert worker.wait(300) == 0
    return job.result().weights


@pytest.fixture
def driver(namespace: Namespace, steps_image: str, prepared: Prepared, reference: str) -> Driver:
    """Return a run whose train step creates a TrainJob of two workers."""
    settings = dataclasses.replace(
        namespace.settings, steps_image=steps_image, trainer="trainjob", workers=4, train_cpu_request="100m"
    )
    install(settings, {PREDICTOR_IMAGE: namespace.predictor_image})
    client: Any = namespace.store._client
    client.make_bucket("mlpipeline")
    store, run_id = S3Store(client, "mlpipeline", "v2"), f"run-{uuid.uuid4().hex[:6]}"
    driver = Driver(compiled(settings), run_id, namespace.kubectl, store, ACCOUNT, PARAMETERS)
    prepared.store(namespace.store)
    driver.provide("prepare", prepared.files, prepared=asdict(prepared.described))
    return driver


def rest(namespace: Namespace) -> str:
    """Return the names of what a training leaves in the cluster, apart from the step's pod."""
    kinds = ("trainjobs,jobsets,jobs", "--output=name")
    return namespace.kubectl("get", *kinds) + namespace.kubectl("get", "pods", f"--selector={WORKERS}", kinds[1])


def test_a_killed_worker_changes_nothing(namespace: Namespace, driver: Driver, reference: str) -> None:
    """Two workers, of which one is killed after an epoch, train the same weights as one on this machine."""

    def kill() -> None:
        assert wait_until(lambda: any("checkpoint" in key for key in namespace.store.keys("trainings/")), seconds=300)
        namespace.kubectl("delete", "pod", f"--selector={WORKERS},batch.kubernetes.io/job-completion-index=1")

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        driver.step("train")
    finally:
        killer.join()
    texts = [event.get("text", "") for event in events_of(driver.logs["train"], "train")]
    print("\n".join(texts))
    assert driver.outputs["train"]["parameterValues"]["trained"]["weights"] == reference
    assert [text for text in texts if "started again (1)" in text]
    assert [text.split()[1] for text in texts if text.startswith("epoch")][-1] == "3"
    assert (rest(namespace), namespace.store.keys("trainings/")) == ("", [])


def test_the_workers_end_with_their_step(namespace: Namespace, driver: Driver) -> None:
    """If the step's pod is deleted, so are its TrainJob and all workers, within a minute."""
    pod = driver.start("train")
    assert wait_until(lambda: rest(namespace).count("pod/") == 4, seconds=120)
    began = time.monotonic()
    namespace.kubectl("delete", "pod", pod, "--grace-period=5")
    assert wait_until(lambda: rest(namespace) == "", seconds=60)
    print(f"nothing was left after {time.monotonic() - began:.0f} s")


def test_the_workers_end_with_the_process_of_their_step(namespace: Namespace, driver: Driver) -> None:
    """If the step's process is killed in its pod, all workers end within a minute, and the pod takes the rest along."""

    def found(kind: str, condition: str) -> str:
        return namespace.kubectl("get", kind, f"--output=jsonpath={{.items[*].status.{condition}}}")

    def running() -> int:
        return found("pods", "phase").split().count("Running")

    driver.parameters["epochs"] = 200  # longer than the workers need to notice
    others, pod = running(), driver.start("train")
    assert wait_until(lambda: running() == others + 5, seconds=120)
    began = time.monotonic()
    namespace.kubectl("exec", pod, "--", "sh", "-c", "kill -9 -1")
    assert wait_until(lambda: (running(), found("trainjobs", "conditions[*].type")) == (others, "Failed"), seconds=60)
    print(f"the workers had ended after {time.monotonic() - began:.0f} s")
    namespace.kubectl("delete", "pod", pod)
    assert wait_until(lambda: rest(namespace) == "", seconds=60)

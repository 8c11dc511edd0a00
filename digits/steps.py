"""The seven steps of the pipeline as plain functions on paths and parameters.

A component of `pipeline` calls one of these with the local paths of its artifacts. A path has the same name in the step
that writes it and in the steps that read it. A step never changes its inputs and replaces its outputs whole, so it may
run again. A step's function imports its modules itself, because most are slow to import and because the step's digest
covers exactly these modules (`digits.provenance`).

A step raises DataError if an input is not what its `data`, `feedback`, `prepared` or `lineage` describes.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digits import events, provenance, results
from digits.attempts import step
from digits.errors import DataError
from digits.files import sha256_of_folder, write_json, write_whole
from digits.settings import Settings
from digits.store import open_store

if TYPE_CHECKING:
    from digits.evaluation.metrics import Evaluation

VALIDATION_SHARE = 12  # one in twelve training images is held out: 5,000 of MNIST's 60,000
MAX_FEEDBACK = 3_000  # corrected drawings, the newest
MAX_PICTURES = 5_000  # pictures made to choose the threshold of sure answers; each takes a millisecond


@step("fetch-mnist")
def fetch_mnist(dataset: str, task: str, fetched: Path) -> results.FetchedData:
    """Get and verify the data set, and write the folder train, in blocks, and test.npz to the folder `fetched`."""
    from digits.data import blocks, catalog, fetch

    settings = Settings.load().with_task(task)
    source = fetch.fetch(settings.declaration, dataset, fetch.open_place(settings), settings.home / "data")
    if source.name == catalog.FALLBACK:
        text = f"scikit-learn's {len(source.train)} digits"
        if dataset != catalog.FALLBACK:
            text = f"NO MNIST: using {text} instead"
        events.emit("progress", "fetch-mnist", text=text)
    for finding in source.findings:
        events.emit("progress", "fetch-mnist", text=f"left out: {finding}")
    return results.FetchedData(
        dataset=source.name,
        digest=source.digest,
        train=blocks.write(fetched / "train", blocks.cut(source.train)),
        test=source.test.save(fetched / "test.npz"),
        train_count=len(source.train),
        test_count=len(source.test),
        task=settings.declaration.of_model().text(),
    )


@step("collect-feedback")
def collect_feedback(store: str, task: str, corrections: Path) -> results.CollectedFeedback:
    """Read the corrected drawings from the object store at the URI `store`; write the data set `corrections`."""
    from digits.data.corrections import collect
    from digits.store.trial import check_writing

    settings = Settings.load().with_task(task)
    check_writing(opened := open_store(settings, store))  # before the training, for the publication after it
    collected = collect(opened, limit=MAX_FEEDBACK, task=settings.declaration)
    digest = collected.save(corrections)
    return results.CollectedFeedback(digest=digest, count=len(collected), rejected=sum(collected.rejected.values()))


@step("prepare")
def prepare(
    fetched: Path,
    corrections: Path,
    data: results.FetchedData,
    feedback: results.CollectedFeedback,
    seed: int,
    *,
    train_set: Path,
    validation_set: Path,
    test_set: Path,
) -> results.PreparedData:
    """Split off a validation set by `seed`, add the corrections to the rest, and write the three sets.

    If the training set has several blocks, these are written to the settings' object store.
    """
    from digits.data import catalog, preparation
    from digits.data.dataset import Dataset

    settings = Settings.load().with_task(data.task)
    test = Dataset.load(fetched / "test.npz", digest=data.test)
    made = preparation.prepare(
        fetched / "train",
        data.train,
        Dataset.load(corrections, digest=feedback.digest),
        test=test,
        share=VALIDATION_SHARE,
        seed=seed,
        code=provenance.step_digest("prepare"),
        store=open_store(settings),
        folder=train_set,
    )
    return results.PreparedData(
        train=made.train,
        validation=made.validation.save(validation_set),
        test=test.save(test_set),
        feedback_used=made.feedback_used,
        are_digits=catalog.are_digits(data.dataset),
        task=data.task,
    )


@step("train")
def train(
    train_set: Path,
    validation_set: Path,
    prepared: results.PreparedData,
    parameters: dict[str, Any],
    model: Path,
    history: Path,
) -> results.TrainedModel:
    """Fit the network and export it, by the trainer of the settings. This is the only step that imports TensorFlow.

    It writes model.keras, saved_model/, model.onnx and architecture.json to the folder `model`, and a list with one
    {epoch, loss, accuracy, val_loss, val_accuracy, seconds} per epoch to the JSON file `history`.

    Raises:
        UsageError: one of the `parameters`, which are those of TrainingConfig, is unknown or out of range.
    """
    from digits.training.checkpoints import Checkpoints
    from digits.training.job import Job
    from digits.training.recipe import TrainingConfig
    from digits.training.trainers import find_trainer

    config, settings = TrainingConfig(**parameters), Settings.load().with_task(prepared.task)
    trainer = find_trainer(settings.trainer)
    with tempfile.TemporaryDirectory() as folder:
        job = Job(Path(folder), config, prepared, provenance.step_digest("train"))
        (job.folder / "train_set").symlink_to(train_set.absolute())
        (job.folder / "validation_set").symlink_to(validation_set.absolute())
        trained = trainer(settings, job)
        shutil.rmtree(model, ignore_errors=True)
        shutil.copytree(job.output / "model", model)
        write_whole(history, (job.output / "history.json").read_bytes())
        Checkpoints.open(settings, job.key).remove()
    return trained


@step("evaluate")
def evaluate(
    model: Path,
    validation_set: Path,
    test_set: Path,
    history: Path,
    lineage: results.Lineage,
    *,
    evaluation: Path,
    report: Path,
) -> Evaluation:
    """Evaluate the model on the test set with ONNX Runtime; write the evaluation as JSON and the report as HTML.

    The threshold of sure answers is chosen on pictures made from the validation images.
    """
    from digits.data.dataset import Dataset
    from digits.evaluation import calibration, metrics
    from digits.evaluation.corruptions import corrupt
    from digits.evaluation.report import render
    from digits.evaluation.threshold import choose_threshold
    from digits.evaluation.variations import vary
    from digits.tasks.task import find

    check_model(model, lineage.trained.files)
    validation = Dataset.load(validation_set, digest=lineage.prepared.validation)
    test = Dataset.load(test_set, digest=lineage.prepared.test)
    task = find(lineage.data.task)
    pictures = vary(validation[:MAX_PICTURES], task)
    sets = {"validation images": validation, "pictures made from validation images": pictures, "test images": test}
    answers = [(metrics.predict(model / "model.onnx", each.images), each.labels) for each in sets.values()]
    threshold = choose_threshold(*answers[1])
    measured = [calibration.measure(*each, lineage.trained.temperature, threshold) for each in answers]
    corrupted = metrics.recognised(model / "model.onnx", corrupt(test, task))
    result = metrics.evaluate(answers[2][0], test, task, threshold, dict(zip(sets, measured, strict=True)), corrupted)
    write_json(evaluation, asdict(result))
    write_whole(report, render(result, json.loads(history.read_text()), lineage.describe()))
    return result


@step("publish")
def publish(
    model: Path,
    test_set: Path,
    history: Path,
    evaluation: Path,
    lineage: results.Lineage,
    *,
    experiment: str,
    min_accuracy: float,
    store: str,
    report: Path,
) -> results.PublishedRelease:
    """Write the release, log it to MLflow, register it, and promote it if it passes the gate.

    A promotion needs at least the accuracy `min_accuracy`, in 0..1. The report is written again, with the decision.
    """
    from digits.data.dataset import Dataset
    from digits.evaluation.metrics import Evaluation
    from digits.release.publish import Candidate, publish_candidate

    check_model(model, lineage.trained.files)
    candidate = Candidate(
        model=model,
        test=Dataset.load(test_set, digest=lineage.prepared.test),
        history=json.loads(history.read_text()),
        evaluation=Evaluation.load(evaluation),
        about=lineage.describe(),
        min_accuracy=min_accuracy,
    )
    settings = Settings.load().with_task(lineage.data.task)
    published, html = publish_candidate(settings, open_store(settings, store), candidate, experiment)
    write_whole(report, html)
    return published


@step("deploy")
def deploy(store: str, task: str) -> results.DeployedRelease:
    """Put the champion behind the endpoint and wait until it answers its golden image correctly.

    The champion is read from the ledger, because another run or a rollback may have changed it since `publish`, and
    again if it changes meanwhile.
    """
    from digits.release import deploy, ledger, releases

    settings = Settings.load().with_task(task)
    opened = open_store(settings, store)
    settings = dataclasses.replace(settings, store=opened.uri)
    deployer = deploy.find_deployer(settings.deployer or deploy.FOLLOW)
    while champion := ledger.champion(opened):
        manifest = releases.load_whole(opened, champion)
        try:
            endpoint = deployer(settings, manifest, releases.release_uri(opened, champion))
        except deploy.Superseded as exc:
            if ledger.champion(opened) == champion:  # replaced by a deployment that is no promotion
                raise
            events.emit("progress", "deploy", text=exc.message)
        else:
            return results.DeployedRelease(endpoint=endpoint, version=champion)
    events.emit("progress", "deploy", text="no champion to deploy: no release has passed the gate yet")
    return results.DeployedRelease(endpoint="", version="")


def check_model(folder: Path, expected: str) -> None:
    """Raise DataError unless the model's files have the digest `expected`."""
    if (actual := sha256_of_folder(folder)) != expected:
        raise DataError(
            f"the model {folder} changed: expected digest {expected}, found {actual}",
            remedy="run again with --no-cache to train it again",
        )

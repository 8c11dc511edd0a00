"""The seven components. Each calls one function of `digits.steps` and declares its outputs.

KFP ships a component as the source text of its function, so each imports modules inside. Nothing is installed at start:
the image (or this interpreter) has everything. A step's result is passed as a dict of the fields of its class in
`digits.results`. `code`, `source` and `feedback_digest` are parameters only because the cache key must contain them.
"""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Artifact, ClassificationMetrics, Dataset, Input, Metrics, Model, Output

# Backends replace it by their own image. kfp.local requires "python" in the name, and pulls no image that has a tag.
IMAGE = "digits-python:local"


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def fetch_mnist(dataset: str, task: str, source: str, code: str, fetched: Output[Dataset]) -> NamedTuple(
    "Outputs", [("data", dict)]
):
    """Get the data set from the configured place and verify its content."""
    from dataclasses import asdict
    from pathlib import Path

    from digits import steps

    data = asdict(steps.fetch_mnist(dataset, task, Path(fetched.path)))
    fetched.metadata.update(data)
    return (data,)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def collect_feedback(
    store: str, task: str, feedback_digest: str, code: str, corrections: Output[Dataset]
) -> NamedTuple("Outputs", [("feedback", dict)]):
    """Get the corrected drawings from the object store."""
    from dataclasses import asdict
    from pathlib import Path

    from digits import steps

    feedback = asdict(steps.collect_feedback(store, task, Path(corrections.path)))
    corrections.metadata.update(feedback)
    return (feedback,)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def prepare(
    fetched: Input[Dataset],
    corrections: Input[Dataset],
    data: dict,
    feedback: dict,
    seed: int,
    code: str,
    train_set: Output[Dataset],
    validation_set: Output[Dataset],
    test_set: Output[Dataset],
) -> NamedTuple("Outputs", [("prepared", dict)]):
    """Split off a validation set and add the corrections to the training set."""
    from dataclasses import asdict
    from pathlib import Path

    from digits import results, steps

    prepared = steps.prepare(
        Path(fetched.path),
        Path(corrections.path),
        results.read(results.FetchedData, data),
        results.read(results.CollectedFeedback, feedback),
        seed,
        train_set=Path(train_set.path),
        validation_set=Path(validation_set.path),
        test_set=Path(test_set.path),
    )
    train_set.metadata["digest"] = prepared.train
    validation_set.metadata["digest"] = prepared.validation
    test_set.metadata["digest"] = prepared.test
    return (asdict(prepared),)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(
    train_set: Input[Dataset],
    validation_set: Input[Dataset],
    prepared: dict,
    preset: str,
    network: str,
    epochs: int,
    optimizer: str,
    batch_size: int,
    learning_rate: float,
    seed: int,
    shards: int,
    code: str,
    model: Output[Model],
    history: Output[Artifact],
) -> NamedTuple("Outputs", [("trained", dict)]):
    """Fit the network and export it as Keras, SavedModel and ONNX."""
    from dataclasses import asdict
    from pathlib import Path

    from digits import results, steps
    from digits.release import precheck

    precheck.check(prepared["task"])
    trained = steps.train(
        Path(train_set.path),
        Path(validation_set.path),
        results.read(results.PreparedData, prepared),
        {
            "preset": preset,
            "model": network,
            "epochs": epochs,
            "optimizer": optimizer,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "seed": seed,
            "shards": shards,
        },
        Path(model.path),
        Path(history.path),
    )
    model.metadata.update({"framework": "keras", "weights": trained.weights})
    return (asdict(trained),)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(
    model: Input[Model],
    validation_set: Input[Dataset],
    test_set: Input[Dataset],
    history: Input[Artifact],
    data: dict,
    feedback: dict,
    prepared: dict,
    trained: dict,
    code: str,
    metrics: Output[Metrics],
    confusion: Output[ClassificationMetrics],
    report: Output[HTML],
    evaluation: Output[Artifact],
) -> None:
    """Evaluate the model on the test set."""
    from pathlib import Path

    from digits import files, results, steps
    from digits.tasks.task import find

    result = steps.evaluate(
        Path(model.path),
        Path(validation_set.path),
        Path(test_set.path),
        Path(history.path),
        results.Lineage.read(data, feedback, prepared, trained),
        evaluation=Path(evaluation.path),
        report=Path(report.path),
    )
    for name, value in result.scalars.items():
        metrics.log_metric(name, value)
    confusion.log_confusion_matrix(list(find(data["task"]).labels), result.confusion)
    confusion.log_roc_curve(*(list(column) for column in zip(*result.roc, strict=True)))
    # KFP stores these values as metadata only, but its local cache accepts only artifacts with a file.
    files.write_json(Path(metrics.path), metrics.metadata)
    files.write_json(Path(confusion.path), confusion.metadata)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def publish(
    model: Input[Model],
    test_set: Input[Dataset],
    history: Input[Artifact],
    evaluation: Input[Artifact],
    data: dict,
    feedback: dict,
    prepared: dict,
    trained: dict,
    experiment: str,
    min_accuracy: float,
    store: str,
    code: str,
    report: Output[HTML],
) -> NamedTuple("Outputs", [("published", dict)]):
    """Write the release, register it, and promote it if it passes the gate."""
    from dataclasses import asdict
    from pathlib import Path

    from digits import results, steps

    published = steps.publish(
        Path(model.path),
        Path(test_set.path),
        Path(history.path),
        Path(evaluation.path),
        results.Lineage.read(data, feedback, prepared, trained),
        experiment=experiment,
        min_accuracy=min_accuracy,
        store=store,
        report=Path(report.path),
    )
    return (asdict(published),)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def deploy(data: dict, feedback: dict, trained: dict, published: dict, store: str, code: str) -> NamedTuple(
    "Outputs", [("deployed", dict)]
):
    """Put the champion behind the endpoint, and emit the run's outputs as one event.

    Engines that do not return outputs, such as Kubeflow's API, have the event in this step's log.
    """
    from dataclasses import asdict

    from digits import events, steps

    deployed = asdict(steps.deploy(store, data["task"]))
    outputs = {"data": data, "feedback": feedback, "trained": trained, "published": published, "deployed": deployed}
    events.emit("outputs", "deploy", outputs=outputs)
    return (deployed,)

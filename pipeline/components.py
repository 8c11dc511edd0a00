"""The seven components. Each calls one function of `digits.steps` and declares what it writes.

KFP ships a component as its source text, so each imports what it needs inside. Nothing is installed at start:
the image (or this interpreter) holds everything. `code` is a parameter of each only to be part of its cache key.
"""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Artifact, ClassificationMetrics, Dataset, Input, Metrics, Model, Output

# Replaced by the backend's own image; kfp.local wants "python" in the name, and a tag keeps it from pulling.
IMAGE = "digits-python:local"


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def fetch_mnist(dataset: str, code: str, fetched: Output[Dataset]) -> NamedTuple("Outputs", [("facts", dict)]):
    """Get the data set from the configured place and check its content."""
    from pathlib import Path

    from digits import events, steps

    with events.reported("fetch-mnist"):
        facts = steps.fetch_mnist(dataset, Path(fetched.path))
    fetched.metadata.update(facts)
    return (facts,)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def collect_feedback(store: str, feedback: str, code: str, corrections: Output[Dataset]) -> NamedTuple(
    "Outputs", [("facts", dict)]
):
    """Get the corrected drawings from the object store. `feedback` stands for their content in the cache key."""
    from pathlib import Path

    from digits import events, steps

    with events.reported("collect-feedback"):
        facts = steps.collect_feedback(store, Path(corrections.path))
    corrections.metadata.update(facts)
    return (facts,)


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
) -> NamedTuple("Outputs", [("facts", dict)]):
    """Split off a validation set and join the corrections to the training set."""
    from pathlib import Path

    from digits import events, steps

    outputs = {"train": train_set, "validation": validation_set, "test": test_set}
    with events.reported("prepare"):
        facts = steps.prepare(
            Path(fetched.path),
            Path(corrections.path),
            {"fetched": data["digest"], "feedback": feedback["digest"]},
            seed,
            {name: Path(output.path) for name, output in outputs.items()},
        )
    for name, output in outputs.items():
        output.metadata["digest"] = facts[name]
    return (facts,)


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
    code: str,
    model: Output[Model],
    history: Output[Artifact],
) -> NamedTuple("Outputs", [("facts", dict)]):
    """Fit the network and export it as Keras, SavedModel and ONNX."""
    from pathlib import Path

    from digits import events, steps

    with events.reported("train"):
        facts = steps.train(
            {"train": Path(train_set.path), "validation": Path(validation_set.path)},
            prepared,
            {
                "preset": preset,
                "model": network,
                "epochs": epochs,
                "optimizer": optimizer,
                "batch_size": batch_size,
                "learning_rate": learning_rate,
                "seed": seed,
            },
            Path(model.path),
            Path(history.path),
        )
    model.metadata.update({"framework": "keras", "weights": facts["weights"]})
    return (facts,)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(
    model: Input[Model],
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
    """Judge the model on the test set."""
    from pathlib import Path

    from digits import events, files, steps

    with events.reported("evaluate"):
        result = steps.evaluate(
            Path(model.path),
            Path(test_set.path),
            {"test": prepared["test"], "model": trained["model"]},
            Path(history.path),
            steps.about_run(data, feedback, prepared, trained),
            {"evaluation": Path(evaluation.path), "report": Path(report.path)},
        )
    for name in ("accuracy", "loss", "auc"):
        metrics.log_metric(name, getattr(result, name))
    confusion.log_confusion_matrix([str(digit) for digit in range(10)], result.confusion)
    confusion.log_roc_curve(*(list(column) for column in zip(*result.roc, strict=True)))
    # KFP keeps these figures in metadata alone; its local cache trusts only artifacts that are files.
    files.write_json(Path(metrics.path), metrics.metadata)
    files.write_json(Path(confusion.path), confusion.metadata)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def publish(
    model: Input[Model],
    test_set: Input[Dataset],
    history: Input[Artifact],
    evaluation: Input[Artifact],
    prepared: dict,
    trained: dict,
    experiment: str,
    min_accuracy: float,
    store: str,
    code: str,
    report: Output[HTML],
) -> NamedTuple("Outputs", [("facts", dict), ("champion", str)]):
    """Write the release, register it, and promote it if it passes the gate."""
    from pathlib import Path

    from digits import events, steps

    inputs = {"model": model, "test": test_set, "history": history, "evaluation": evaluation}
    with events.reported("publish"):
        facts = steps.publish(
            {name: Path(value.path) for name, value in inputs.items()},
            {name: trained[name] for name in ("weights", "model")} | {"test": prepared["test"]},
            experiment,
            min_accuracy,
            store,
            {"report": Path(report.path)},
        )
    return (facts, facts["champion"])


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def deploy(
    champion: str,
    data: dict,
    feedback: dict,
    trained: dict,
    published: dict,
    store: str,
    code: str,
    served: Output[Artifact],
) -> NamedTuple("Outputs", [("facts", dict)]):
    """Put the champion behind the endpoint, and write the run's outputs as one event.

    An engine that returns no outputs (Kubeflow's API does not) still has this step's log.
    """
    import json
    from pathlib import Path

    from digits import events, files, steps

    with events.reported("deploy"):
        facts = steps.deploy(champion, store)
    files.write_whole(Path(served.path), json.dumps(facts))
    served.metadata.update(facts)
    outputs = {"data": data, "feedback": feedback, "trained": trained, "published": published, "deployed": facts}
    events.emit("outputs", "deploy", outputs=outputs)
    return (facts,)

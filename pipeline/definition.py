"""The one definition: seven steps, the same wherever they run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from kfp import compiler, dsl
from kfp.dsl import HTML

from digits.provenance import digest as code_digest
from pipeline import EXPERIMENT, NAME, components

CODE = code_digest()

Configure = Callable[[dsl.PipelineTask], Any]


class Outputs(NamedTuple):
    """What a run answers: facts of its steps, and the report."""

    data: dict
    feedback: dict
    trained: dict
    published: dict
    deployed: dict
    report: HTML


def unchanged(task: dsl.PipelineTask) -> None:
    """Configure nothing."""


def build(configure: Configure = unchanged) -> Any:
    """The pipeline as KFP's component.

    Args:
        configure: called with each task; a backend sets there what only its engine has (image, secrets, limits).
    """

    @dsl.pipeline(name=NAME, description="From MNIST to a handwritten-digit classifier behind an endpoint")
    def digits_recognizer(
        epochs: int = 3,
        optimizer: str = "adam",
        experiment: str = EXPERIMENT,
        preset: str = "fast",
        model: str = "default",
        batch_size: int = 0,
        learning_rate: float = 0.0,
        seed: int = 0,
        min_accuracy: float = 0.95,
        dataset: str = "auto",
        store: str = "",
        feedback: str = "",
        code: str = CODE,
    ) -> Outputs:
        """Train, judge, release and deploy a handwritten-digit classifier.

        Args:
            epochs: passes over the training images, whatever the preset; 0: as many as the preset has.
            optimizer: one of digits.training.optimizers.OPTIMIZERS.
            experiment: of MLflow.
            preset: fast or accurate.
            model: default, or baseline: the earlier designs' network.
            batch_size: images a step of training; 0: the preset's.
            learning_rate: its peak; 0: the preset's.
            seed: of the split, the weights and the order.
            min_accuracy: least accuracy, 0..1, for a promotion.
            dataset: mnist or another of digits.data.catalog.SOURCES, sklearn-digits, or auto: MNIST if available.
            store: URI of the object store; empty: as the environment of the steps says.
            feedback: digest of the corrected drawings there, so that new ones miss the cache.
            code: digest of our sources, so that changed ones miss the cache.
        """
        fetched = components.fetch_mnist(dataset=dataset, code=code)
        collected = components.collect_feedback(store=store, feedback=feedback, code=code)
        data, corrected = fetched.outputs["facts"], collected.outputs["facts"]
        prepared = components.prepare(
            fetched=fetched.outputs["fetched"],
            corrections=collected.outputs["corrections"],
            data=data,
            feedback=corrected,
            seed=seed,
            code=code,
        )
        trained = components.train(
            train_set=prepared.outputs["train_set"],
            validation_set=prepared.outputs["validation_set"],
            prepared=prepared.outputs["facts"],
            preset=preset,
            network=model,
            epochs=epochs,
            optimizer=optimizer,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
            code=code,
        )
        evaluated = components.evaluate(
            model=trained.outputs["model"],
            test_set=prepared.outputs["test_set"],
            history=trained.outputs["history"],
            data=data,
            feedback=corrected,
            prepared=prepared.outputs["facts"],
            trained=trained.outputs["facts"],
            code=code,
        )
        published = components.publish(
            model=trained.outputs["model"],
            test_set=prepared.outputs["test_set"],
            history=trained.outputs["history"],
            evaluation=evaluated.outputs["evaluation"],
            prepared=prepared.outputs["facts"],
            trained=trained.outputs["facts"],
            experiment=experiment,
            min_accuracy=min_accuracy,
            store=store,
            code=code,
        )
        deployed = components.deploy(
            champion=published.outputs["champion"],
            data=data,
            feedback=corrected,
            trained=trained.outputs["facts"],
            published=published.outputs["facts"],
            store=store,
            code=code,
        )
        deployed.set_caching_options(enable_caching=False)  # the endpoint may have changed since the last run
        for task in (fetched, collected, prepared, trained, evaluated, published, deployed):
            configure(task)
        return Outputs(
            data,
            corrected,
            trained.outputs["facts"],
            published.outputs["facts"],
            deployed.outputs["facts"],
            published.outputs["report"],
        )

    return digits_recognizer


def compile_to(path: Path, configure: Configure = unchanged, defaults: dict[str, Any] | None = None) -> None:
    """Write the compiled pipeline (and what the cluster alone needs, its platform spec) as YAML.

    Args:
        path: the file.
        configure: as `build` takes it.
        defaults: of parameters, in place of the definition's.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.part.yaml")
    try:
        compiler.Compiler().compile(build(configure), str(part), pipeline_parameters=defaults)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)

"""The pipeline's definition: seven steps, the same on every engine."""

import tempfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from kfp import compiler, dsl
from kfp.dsl import HTML

from digits.files import write_output
from digits.provenance import step_digest
from digits.results import RunOutputs
from pipeline import DEFAULTS, NAME, components

DESCRIPTION = "From labelled images, by default MNIST's digits, to a classifier behind an endpoint"

Configure = Callable[[dsl.PipelineTask], Any]

Outputs = NamedTuple("Outputs", [*((field.name, dict) for field in fields(RunOutputs)), ("report", HTML)])  # type: ignore[misc]


def define(add: Callable[..., Any]) -> Callable[..., Any]:
    """Return the pipeline as a function of its parameters, which adds or runs each step by `add`.

    `add(component, **inputs)` returns an object whose `outputs` are the step's results and artifacts by name. With
    `cached=False` the step runs even if nothing changed.
    """

    def digits_recognizer(
        epochs: int = DEFAULTS.epochs,
        optimizer: str = DEFAULTS.optimizer,
        experiment: str = DEFAULTS.experiment,
        preset: str = DEFAULTS.preset,
        model: str = DEFAULTS.model,
        batch_size: int = DEFAULTS.batch_size,
        learning_rate: float = DEFAULTS.learning_rate,
        seed: int = DEFAULTS.seed,
        shards: int = DEFAULTS.shards,
        min_accuracy: float = DEFAULTS.min_accuracy,
        dataset: str = DEFAULTS.dataset,
        task: str = DEFAULTS.task,
        source: str = "",
        store: str = "",
        feedback: str = "",
    ) -> Outputs:
        """Train, evaluate, release and deploy a classifier of small images, by default of handwritten digits.

        Args:
            epochs: passes over the training images, whatever the preset; 0: as many as the preset has.
            optimizer: one of digits.training.optimizers.OPTIMIZERS.
            experiment: name of the experiment in MLflow.
            preset: fast or accurate.
            model: default, or baseline: the earlier designs' network.
            batch_size: images per training step; 0: the preset's.
            learning_rate: its peak; 0: the preset's.
            seed: of the split, the weights and the order.
            shards: parts of a batch whose gradients are computed apart, for several workers; 0: the batch as a whole.
            min_accuracy: least accuracy for a promotion, in 0..1.
            dataset: auto: the task's own, for digits MNIST if available; for digits also mnist or sklearn-digits.
            task: what is recognised: the name of a built-in task, or a task's text.
            source: digest of the task's own data, so that changed pictures miss the cache.
            store: URI of the object store; empty: from the environment of the steps.
            feedback: digest of the corrected drawings there, so that new ones miss the cache.
        """
        fetched = add(components.fetch_mnist, dataset=dataset, task=task, source=source)
        collected = add(components.collect_feedback, store=store, task=task, feedback_digest=feedback)
        prepared = add(
            components.prepare,
            fetched=fetched.outputs["fetched"],
            corrections=collected.outputs["corrections"],
            data=fetched.outputs["data"],
            feedback=collected.outputs["feedback"],
            seed=seed,
        )
        trained = add(
            components.train,
            train_set=prepared.outputs["train_set"],
            validation_set=prepared.outputs["validation_set"],
            prepared=prepared.outputs["prepared"],
            preset=preset,
            network=model,
            epochs=epochs,
            optimizer=optimizer,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
            shards=shards,
        )
        lineage = {
            "data": fetched.outputs["data"],
            "feedback": collected.outputs["feedback"],
            "prepared": prepared.outputs["prepared"],
            "trained": trained.outputs["trained"],
        }
        evaluated = add(
            components.evaluate,
            model=trained.outputs["model"],
            validation_set=prepared.outputs["validation_set"],
            test_set=prepared.outputs["test_set"],
            history=trained.outputs["history"],
            **lineage,
        )
        published = add(
            components.publish,
            model=trained.outputs["model"],
            test_set=prepared.outputs["test_set"],
            history=trained.outputs["history"],
            evaluation=evaluated.outputs["evaluation"],
            **lineage,
            experiment=experiment,
            min_accuracy=min_accuracy,
            store=store,
        )
        outputs = {
            "data": fetched.outputs["data"],
            "feedback": collected.outputs["feedback"],
            "trained": trained.outputs["trained"],
            "published": published.outputs["published"],
        }
        # Not cached, because the endpoint may have changed since the last run.
        deployed = add(components.deploy, **outputs, store=store, cached=False)
        report = published.outputs["report"]
        return Outputs(**outputs | {"deployed": deployed.outputs["deployed"], "report": report})

    return digits_recognizer


def unchanged(task: dsl.PipelineTask) -> None:
    """Configure nothing."""


def build(configure: Configure = unchanged) -> Any:
    """Return the pipeline as a KFP component.

    `configure` is called with each task, so that a backend can set what only its engine has (image, secrets, limits).
    """

    def add(component: Any, *, cached: bool = True, **inputs: Any) -> dsl.PipelineTask:
        task = component(**inputs, code=step_digest(component.name))
        configure(task)
        if not cached:
            task.set_caching_options(enable_caching=False)
        return task

    return dsl.pipeline(name=NAME, description=DESCRIPTION)(define(add))


def compile_to(
    path: Path,
    configure: Configure = unchanged,
    defaults: dict[str, Any] | None = None,
    *,
    of: Callable[[Configure], Any] = build,
    **options: Any,
) -> None:
    """Write the compiled pipeline, and the platform spec that only a cluster needs, to `path` as YAML.

    `configure` is as for `build`, or for another definition's function `of`. `defaults` replaces the defaults of those
    parameters. `options` are those of KFP's compiler.

    Raises:
        DigitsError: the file system refused.
    """
    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder, "pipeline.yaml")
        compiler.Compiler().compile(of(configure), str(compiled), pipeline_parameters=defaults, **options)
        write_output(path, compiled.read_bytes())

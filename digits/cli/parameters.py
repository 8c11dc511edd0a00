"""The options that set the pipeline's parameters. `run`, `up`, `submit` and `schedule` share them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import click

from digits.cli.setting_option import sets
from digits.data.catalog import names
from digits.errors import UsageError
from digits.files import user_path
from digits.settings import Settings
from digits.tasks.task import BUILT_IN, MAX_EPOCHS
from digits.training.optimizers import OPTIMIZERS
from digits.training.recipe import MAX_SHARDS, MODELS, PRESETS, SHARDS
from pipeline import DEFAULTS, check_parameters, defaults_of

DATASETS = names()

# The options have no defaults: for a parameter that is not given, the definition uses DEFAULTS.
PARAMETERS = (
    click.option(
        "--epochs", type=click.IntRange(1, MAX_EPOCHS), help=f"Passes over the training images.  [{DEFAULTS.epochs}]"
    ),
    click.option(
        "--optimizer",
        type=click.Choice(list(OPTIMIZERS), case_sensitive=False),
        metavar="NAME",
        help=f"One of {', '.join(OPTIMIZERS)}.  [{DEFAULTS.optimizer}]",
    ),
    click.option("--experiment", help=f"Name of the experiment in MLflow.  [{DEFAULTS.experiment}]"),
    click.option("--preset", type=click.Choice(list(PRESETS)), help=f"Tuned training settings.  [{DEFAULTS.preset}]"),
    click.option(
        "--model",
        type=click.Choice(MODELS),
        help=f"Network to train; baseline is the network of the earlier designs.  [{DEFAULTS.model}]",
    ),
    click.option("--batch-size", type=click.IntRange(1, 60000), help="Images per training step.  [the preset's]"),
    click.option(
        "--learning-rate", type=click.FloatRange(0, 10, min_open=True), help="Peak learning rate.  [the preset's]"
    ),
    click.option(
        "--seed",
        type=click.IntRange(0, 2**31 - 1),
        help=f"Seed of the validation split, the initial weights and the order of images.  [{DEFAULTS.seed}]",
    ),
    click.option(
        "--workers",
        type=click.IntRange(1, MAX_SHARDS),
        help="Processes that train together. Their number does not change the result.",
        **sets("DIGITS_WORKERS"),
    ),
    click.option(
        "--shards",
        type=click.IntRange(0, MAX_SHARDS),
        help=f"Parts of a batch whose gradients are computed apart.  [0, or {SHARDS} with workers]",
    ),
    click.option(
        "--min-accuracy",
        type=click.FloatRange(0, 1),
        help=f"Lowest accuracy for a promotion.  [{DEFAULTS.min_accuracy}]",
    ),
    click.option(
        "--dataset",
        type=click.Choice(DATASETS),
        metavar="NAME",
        help=f"One of {', '.join(DATASETS)}; auto is MNIST if it is available.  [{DEFAULTS.dataset}]",
    ),
)


def parameter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a command with the options of PARAMETERS."""
    for option in reversed(PARAMETERS):
        command = option(command)
    return command


def chosen_parameters(options: dict[str, Any], settings: Settings, *, resumed: bool = False) -> dict[str, Any]:
    """Return the pipeline's parameters that these options and the settings' task set.

    A resumed run has those of its task already.

    Raises:
        UsageError: no run accepts them, or the task's pictures are in a folder that the backend cannot reach.
    """
    task = settings.declaration
    if task.name != BUILT_IN and settings.data:
        task = task.with_place(settings.data)
        if not task.data.is_remote:
            if settings.backend == "kubeflow":
                raise UsageError(
                    f"the data of the task {task.name} is in {settings.data}, which Kubeflow cannot reach",
                    remedy="digits data s3://BUCKET/FOLDER copies it; write that address as the task's data.place",
                )
            task = task.with_place("")  # each step gets it as DIGITS_DATA
    chosen = {name: value for name, value in options.items() if value is not None}
    parameters = chosen if resumed else defaults_of(task) | chosen
    if "preset" in chosen:
        parameters.setdefault("epochs", 0)  # the preset's number, which the definition's default would override
    workers = 0 if resumed else settings.workers
    if workers and parameters.get("model") != "baseline":
        parameters = {"shards": SHARDS} | parameters
    check_parameters(parameters, workers)
    return parameters


def load_settings(data: str | None = None, backend: str | None = None) -> Settings:
    """Load the settings, and replace them by the options --data and --backend if given.

    Raises:
        UsageError: --data is empty, or is given for Kubeflow, whose steps read the address from a ConfigMap.
    """
    settings = Settings.load()
    if backend:
        settings = settings.with_backend(backend)
    if data is not None and settings.backend == "kubeflow":
        raise UsageError(
            f"--data {data}: steps on Kubeflow read DIGITS_DATA from the ConfigMap {settings.config_map}",
            remedy=f"set it there: kubectl -n {settings.namespace} edit configmap {settings.config_map}",
        )
    if data is not None:
        settings = dataclasses.replace(settings, data=data if "://" in data else str(user_path(data).absolute()))
    return settings

"""The options that set the pipeline's parameters, which several commands take."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from digits.data.catalog import names
from digits.errors import UsageError
from digits.settings import Settings
from digits.training.recipe import MODELS, OPTIMIZERS, PRESETS

if TYPE_CHECKING:
    from collections.abc import Callable

DATASETS = names()

# The definition's parameters that a user sets, as options. Defaults are the definition's own.
PARAMETERS = (
    click.option("--epochs", type=click.IntRange(1, 1000), help="Passes over the training images.  [3]"),
    click.option(
        "--optimizer",
        type=click.Choice(list(OPTIMIZERS), case_sensitive=False),
        metavar="NAME",
        help=f"One of {', '.join(OPTIMIZERS)}.  [adam]",
    ),
    click.option("--experiment", help="Name of the experiment in MLflow.  [digits-recognizer-kfp]"),
    click.option("--preset", type=click.Choice(list(PRESETS)), help="A tuned way of training.  [fast]"),
    click.option(
        "--model", type=click.Choice(MODELS), help="Network to train; baseline is the earlier one.  [default]"
    ),
    click.option("--batch-size", type=click.IntRange(1, 60000), help="Images in a training step.  [the preset's]"),
    click.option(
        "--learning-rate",
        type=click.FloatRange(0, 10, min_open=True),
        help="Peak of the learning rate.  [the preset's]",
    ),
    click.option(
        "--seed", type=click.IntRange(0, 2**31 - 1), help="Seed of the split, the first weights and the order.  [0]"
    ),
    click.option("--min-accuracy", type=click.FloatRange(0, 1), help="Least accuracy for a promotion.  [0.95]"),
    click.option(
        "--dataset",
        type=click.Choice(DATASETS),
        metavar="NAME",
        help=f"One of {', '.join(DATASETS)}; auto is MNIST if it can be had.  [auto]",
    ),
)


def parameter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of PARAMETERS to a command."""
    for option in reversed(PARAMETERS):
        command = option(command)
    return command


def chosen(options: dict[str, Any]) -> dict[str, Any]:
    """The definition's parameters that these options set."""
    given = {name: value for name, value in options.items() if value is not None}
    if "preset" in given:
        given.setdefault("epochs", 0)  # as many as the preset has, not the definition's default
    return given


def load_settings(data: str | None, backend: str | None) -> Settings:
    """Load the settings, with the values of the options --data and --backend if given."""
    settings = Settings.load()
    if backend:
        settings = dataclasses.replace(settings, backend=backend)
    if data and settings.backend == "kubeflow":
        raise UsageError(
            f"--data {data}: steps on Kubeflow take the data from where the ConfigMap {settings.config_map} says",
            remedy=f"set DIGITS_DATA there: kubectl -n {settings.namespace} edit configmap {settings.config_map}",
        )
    if data:
        settings = dataclasses.replace(settings, data=data if "://" in data else str(Path(data).absolute()))
    return settings

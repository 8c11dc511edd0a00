"""The components and the Kubeflow Pipelines definition. The steps themselves are in `digits.steps`.

The names below are not in `pipeline.definition`, because importing that module imports kfp.
"""

import ast
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digits.data.catalog import AUTO, check_name
from digits.errors import UsageError
from digits.tasks.task import BUILT_IN, OF_RUN, Task, find

if TYPE_CHECKING:
    from digits.training.recipe import TrainingConfig

NAME = "digits-recognizer"
BATCH, BATCH_STEPS = "digits-batch", ("plan-batch", "predict-part", "finish-batch")  # of pipeline.batch_definition
PODS = 4  # for batch prediction


@dataclass(frozen=True)
class Defaults:
    """The default values of the parameters that a user may set."""

    epochs: int = 3
    optimizer: str = "adam"
    experiment: str = "digits-recognizer-kfp"
    preset: str = find(BUILT_IN).preset
    model: str = "default"
    batch_size: int = 0
    learning_rate: float = 0.0
    seed: int = 0
    shards: int = 0
    min_accuracy: float = find(BUILT_IN).min_accuracy
    dataset: str = AUTO
    task: str = BUILT_IN


DEFAULTS = Defaults()
MAX_NAME = 250  # characters of an experiment's name, in MLflow and Kubeflow


def defaults_of(task: Task) -> dict[str, Any]:
    """Return the values of the parameters that a task sets instead of DEFAULTS."""
    if task.name == BUILT_IN:
        return {}
    values = {name: getattr(task, name) for name in OF_RUN}
    return {"task": task.name if task.is_built_in else task.without_run().text(), "experiment": task.name, **values}


def shares_of(pods: int) -> list[str]:
    """Return the shares of a batch for that many pods: 1/4, 2/4, 3/4, 4/4."""
    return [f"{index}/{pods}" for index in range(1, pods + 1)]


def check_parameters(parameters: Mapping[str, Any], workers: int = 0) -> "TrainingConfig":
    """Return the training that these parameters describe; those that a user did not set may be absent.

    Raises:
        UsageError: no run accepts the parameters, or that many workers cannot share the training.
    """
    from digits.training.recipe import TrainingConfig

    values = asdict(DEFAULTS) | dict(parameters)
    if unknown := sorted(values.keys() - asdict(DEFAULTS).keys() - {"store", "feedback", "source"}):
        raise UsageError(f"expected parameters of {', '.join(asdict(DEFAULTS))}, got {', '.join(unknown)}")
    try:
        config = TrainingConfig(**{field.name: values[field.name] for field in fields(TrainingConfig)})
        if values["dataset"] != find(values["task"]).name:  # under which a run records the data set of an own task
            check_name(values["dataset"])
        share, name = values["min_accuracy"], values["experiment"]
        if not 0 <= share <= 1:
            raise UsageError(f"min_accuracy: expected a number from 0 to 1, got {share}")
        if not 0 < len(name.strip()) <= MAX_NAME or not name.isprintable():
            raise UsageError(f"experiment: expected a name of 1 to {MAX_NAME} printable characters, got {name!r}")
        if workers > 1 and config.model == "baseline":
            raise UsageError(
                f"workers: expected 1 for the model baseline, which one process trains, got {workers}",
                remedy="--workers 1, or --model default",
            )
        config.check_workers(workers)
    except (TypeError, AttributeError) as exc:
        raise UsageError(f"expected parameters of the types of their defaults, got another: {exc}") from exc
    return config


def _steps() -> tuple[str, ...]:
    """Return the steps in the definition's order, read from its source."""
    tree = ast.parse((Path(__file__).parent / "definition.py").read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    used = [node for node in nodes if isinstance(node.value, ast.Name) and node.value.id == "components"]
    return tuple(node.attr.replace("_", "-") for node in sorted(used, key=lambda node: node.lineno))


STEPS = _steps()

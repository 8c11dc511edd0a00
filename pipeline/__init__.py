"""The components and the Kubeflow Pipelines definition. The steps themselves are in `digits.steps`.

The names below are not in `pipeline.definition`, because importing that module imports kfp.
"""

import ast
from dataclasses import dataclass
from pathlib import Path

from digits.data.catalog import AUTO

NAME = "digits-recognizer"


@dataclass(frozen=True)
class Defaults:
    """The default values of the parameters that a user may set."""

    epochs: int = 3
    optimizer: str = "adam"
    experiment: str = "digits-recognizer-kfp"
    preset: str = "fast"
    model: str = "default"
    batch_size: int = 0
    learning_rate: float = 0.0
    seed: int = 0
    min_accuracy: float = 0.95
    dataset: str = AUTO


DEFAULTS = Defaults()


def _steps() -> tuple[str, ...]:
    """Return the steps in the definition's order, read from its source."""
    tree = ast.parse((Path(__file__).parent / "definition.py").read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    used = [node for node in nodes if isinstance(node.value, ast.Name) and node.value.id == "components"]
    return tuple(node.attr.replace("_", "-") for node in sorted(used, key=lambda node: node.lineno))


STEPS = _steps()

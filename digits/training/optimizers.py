"""The optimizers, with their learning rates and settings. Importing this module does not import TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from digits.errors import UsageError


@dataclass(frozen=True)
class Optimizer:
    """An optimizer for training."""

    rate: float  # peak learning rate for batches of 256 images
    settings: Mapping[str, Any] = field(default_factory=dict)  # other arguments of its class; not for the baseline
    own: Callable[[Any], Any] | None = None  # returns the class, given the module `keras`; None: Keras's of that name


_ADAM = {"beta_1": 0.7, "beta_2": 0.9}  # a shorter memory, for a run of a few hundred steps

# Keras's Ftrl is missing: made for sparse linear models, it starts from weights of 0, and a network learns nothing.
OPTIMIZERS = {
    "adadelta": Optimizer(2.0),
    # Keras's default of 1e-30 underflows when it is squared, and blank pixels then give NaN.
    "adafactor": Optimizer(2e-2, {"epsilon_1": 1e-16}),
    "adagrad": Optimizer(5e-2),
    "adam": Optimizer(1e-2, _ADAM),
    "adamax": Optimizer(2e-2),
    "adamw": Optimizer(1e-2, _ADAM),
    "lamb": Optimizer(2e-2),
    "lion": Optimizer(1e-3),
    "muon": Optimizer(1e-2),
    "nadam": Optimizer(5e-3, _ADAM),
    "rmsprop": Optimizer(2e-3),
    "schedulefreeadamw": Optimizer(5e-3),
    "sgd": Optimizer(1e-1, {"momentum": 0.9, "nesterov": True}),
}


def create(name: str, *, tuned: bool = True) -> Any:
    """Create an optimizer of OPTIMIZERS, with its settings if `tuned`. This imports TensorFlow.

    Raises:
        UsageError: Keras has no optimizer of that name, and the entry has no class of its own.
    """
    from digits.training.tensorflow import keras

    entry = OPTIMIZERS[name]
    if entry.own:
        kind = entry.own(keras)
    else:  # keras.optimizers.get does not know all of them
        kind = {key.lower(): value for key, value in vars(keras.optimizers).items()}.get(name)
    if not (isinstance(kind, type) and issubclass(kind, keras.optimizers.Optimizer)):
        raise UsageError(
            f"optimizer: Keras has no optimizer {name!r}",
            remedy="remove its entry in OPTIMIZERS of digits/training/optimizers.py, or set its class there with own=",
        )
    return kind(**(entry.settings if tuned else {}))

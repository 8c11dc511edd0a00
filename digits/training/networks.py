"""The networks. They return logits; `with_probabilities` makes the model that is released.

Importing this module imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable

from digits.errors import UsageError
from digits.training.tensorflow import keras, layers

IMAGE_SHAPE = (28, 28, 1)
CLASSES = 10


def _convolutions(
    first: int, second: int, third: int, *, normalized: bool = False, dropout: float = 0.0
) -> list[keras.Layer]:
    """Return three convolutions with the given numbers of filters, and a dense layer."""

    def block(number: int, filters: int, kernel: int, *, pooled: bool = True) -> list[keras.Layer]:
        # Pooling before the activation gives the same values for a quarter of the work.
        return [
            layers.Conv2D(filters, kernel, use_bias=not normalized, name=f"conv{number}"),
            *([layers.MaxPooling2D(2, name=f"pool{number}")] if pooled else []),
            *([layers.BatchNormalization(momentum=0.9, name=f"norm{number}")] if normalized else []),
            layers.ReLU(name=f"relu{number}"),
        ]

    return [
        # The outermost two pixels are blank in almost every image; cropping them saves a third of the work.
        layers.Cropping2D(2, name="crop"),
        *block(1, first, 5),
        *block(2, second, 3),
        *block(3, third, 3, pooled=False),
        layers.Flatten(name="flatten"),
        *([layers.Dropout(dropout, name="dropout")] if dropout else []),
        layers.Dense(CLASSES, name="logits"),
    ]


def _baseline() -> list[keras.Layer]:
    return [
        layers.Conv2D(64, 3, activation="relu", name="conv"),
        layers.MaxPooling2D(2, name="pool"),
        layers.Flatten(name="flatten"),
        layers.Dense(64, activation="relu", name="dense1"),
        layers.Dense(32, activation="relu", name="dense2"),
        layers.Dense(CLASSES, name="logits"),
    ]


# Each layer needs a name, because Keras's own names are numbered within a process and would change the saved files.
NETWORKS: dict[str, Callable[[], list[keras.Layer]]] = {
    "small": lambda: _convolutions(16, 32, 128),
    "large": lambda: _convolutions(16, 48, 128, normalized=True, dropout=0.3),
    "baseline": _baseline,  # the earlier design, for comparison
}


def build(name: str) -> keras.Model:
    """Return a network with random weights: `float32 (n, 28, 28, 1)` in 0..1 to `float32 (n, 10)` logits.

    Raises:
        UsageError: there is no network of that name; lists the names.
    """
    if name not in NETWORKS:
        raise UsageError(f"expected a network of {', '.join(NETWORKS)}, got {name!r}")
    return keras.Sequential([keras.Input(IMAGE_SHAPE, name="image"), *NETWORKS[name]()], name=name)


def with_probabilities(network: keras.Model) -> keras.Model:
    """Return `network` with a softmax appended, sharing its weights: the model that is saved and served."""
    probabilities = layers.Softmax(name="probabilities")(network.outputs[0])
    return keras.Model(network.inputs[0], probabilities, name=f"digits_{network.name}")

"""The networks, scaled to a task's images. They return logits; `with_probabilities` makes the model that is released.

Importing this module imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable

from digits.errors import UsageError
from digits.tasks.task import Task
from digits.training.tensorflow import keras, layers

_LEAST_POOLED = 8  # pixels; a smaller side is not halved any more
_LARGE_KERNEL = 20  # pixels of the shorter side from which the first convolution looks at 5 x 5 pixels
_STRIDE = 56  # pixels of the shorter side from which the first convolution visits every second pixel only, to save time


def _convolutions(
    task: Task, first: int, second: int, last: int, *, normalized: bool = False, dropout: float = 0.0
) -> list[keras.Layer]:
    """Return convolutions that halve the image until it is small, and a dense layer.

    The first convolution has `first` filters and the second `second`. From there on the number doubles, except that
    the last convolution has `last`.
    """
    # The outermost pixels of a drawing, 2 of 28, are blank in almost every image; cropping them saves a third of the
    # work.
    crop = [side // 14 if task.reading == "pen" else 0 for side in (task.height, task.width)]
    sides = [side - 2 * margin for side, margin in zip((task.height, task.width), crop, strict=True)]
    result = [layers.Cropping2D(tuple(crop), name="crop")] if any(crop) else []
    number, filters, kernel = 1, first, 5 if min(sides) >= _LARGE_KERNEL else 3
    stride = 2 if min(sides) >= _STRIDE else 1

    def add(filters: int, kernel: list[int], pool: list[int], stride: int = 1) -> None:
        # Pooling before the activation gives the same values for a quarter of the work.
        result.append(layers.Conv2D(filters, kernel, stride, use_bias=not normalized, name=f"conv{number}"))
        if max(pool) > 1:
            result.append(layers.MaxPooling2D(pool, name=f"pool{number}"))
        if normalized:
            result.append(layers.BatchNormalization(momentum=0.9, name=f"norm{number}"))
        result.append(layers.ReLU(name=f"relu{number}"))

    while max(sides) >= _LEAST_POOLED:
        halved = [side >= _LEAST_POOLED for side in sides]
        kernels, pool = [kernel if half else 1 for half in halved], [1 + half for half in halved]
        add(filters, kernels, pool, stride)
        sides = [((side - size) // stride + 1) // each for side, size, each in zip(sides, kernels, pool, strict=True)]
        number, kernel, stride, filters = number + 1, 3, 1, second if number == 1 else min(2 * filters, last)
    add(last, [min(3, side) for side in sides], [1, 1])
    return [
        *result,
        layers.Flatten(name="flatten"),
        *([layers.Dropout(dropout, name="dropout")] if dropout else []),
        layers.Dense(len(task.labels), name="logits"),
    ]


def _baseline(task: Task) -> list[keras.Layer]:
    return [
        layers.Conv2D(64, 3, activation="relu", name="conv"),
        layers.MaxPooling2D(2, name="pool"),
        layers.Flatten(name="flatten"),
        layers.Dense(64, activation="relu", name="dense1"),
        layers.Dense(32, activation="relu", name="dense2"),
        layers.Dense(len(task.labels), name="logits"),
    ]


# Each layer needs a name, because Keras's own names are numbered within a process and would change the saved files.
NETWORKS: dict[str, Callable[[Task], list[keras.Layer]]] = {
    # Drawings need no normalization. Without it, a network of photos learns far less in the same time.
    "small": lambda task: _convolutions(task, 16, 32, 128, normalized=task.reading == "photo"),
    # Photos vary more than drawings, so the first convolutions have more filters.
    "large": lambda task: _convolutions(
        task, *((32, 64, 128) if task.reading == "photo" else (16, 48, 128)), normalized=True, dropout=0.3
    ),
    "baseline": _baseline,  # the earlier design, for comparison
}


def build(name: str, task: Task) -> keras.Model:
    """Return a network with random weights: `float32 (n, height, width, channels)` in 0..1 to `float32 (n, classes)`.

    Raises:
        UsageError: there is no network of that name; lists the names.
    """
    if name not in NETWORKS:
        raise UsageError(f"expected a network of {', '.join(NETWORKS)}, got {name!r}")
    return keras.Sequential([keras.Input(task.input_shape, name="image"), *NETWORKS[name](task)], name=name)


def with_probabilities(network: keras.Model) -> keras.Model:
    """Return `network` with a softmax appended, sharing its weights: the model that is saved and served."""
    probabilities = layers.Softmax(name="probabilities")(network.outputs[0])
    return keras.Model(network.inputs[0], probabilities, name=f"digits_{network.name}")

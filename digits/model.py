"""The networks. Importing this module imports TensorFlow, set up for this processor.

A network takes `float32 (n, 28, 28, 1)` in 0..1 and gives ten logits; `with_probabilities` makes the model that is
released, which gives probabilities.
"""

from __future__ import annotations

import os
from pathlib import Path

from digits.errors import UsageError

IMAGE_SHAPE = (28, 28, 1)
CLASSES = 10


def _has_avx2() -> bool:
    """Whether this processor has AVX2, as Linux tells; elsewhere TensorFlow's own choice stands."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and " avx2 " in cpuinfo.read_text(errors="replace")


# TensorFlow reads these once, when it is imported. oneDNN halves the training time on processors with AVX2, but
# TensorFlow switches it on by itself only from AVX-512 VNNI on.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if _has_avx2():
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras  # noqa: E402 (the variables above come first)
import tensorflow as tf  # noqa: E402
from keras import layers  # noqa: E402

__all__ = ["NETWORKS", "build", "keras", "tf", "with_probabilities"]


def _fast() -> list[keras.Layer]:
    # Pooling before the activation gives the same values for a quarter of the work.
    return [
        layers.Conv2D(24, 5),
        layers.MaxPooling2D(2),
        layers.ReLU(),
        layers.Conv2D(32, 3),
        layers.MaxPooling2D(2),
        layers.ReLU(),
        layers.Flatten(),
        layers.Dense(256, activation="relu"),
        layers.Dense(CLASSES, name="logits"),
    ]


def _baseline() -> list[keras.Layer]:
    # The earlier design, to compare with.
    return [
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(64, activation="relu"),
        layers.Dense(32, activation="relu"),
        layers.Dense(CLASSES, name="logits"),
    ]


NETWORKS = {"fast": _fast, "accurate": _fast, "baseline": _baseline}


def build(name: str) -> keras.Model:
    """A network with fresh weights: `float32 (n, 28, 28, 1)` in 0..1 to `float32 (n, 10)` logits.

    Raises:
        UsageError: there is no network of that name; lists them.
    """
    if name not in NETWORKS:
        raise UsageError(f"expected a network of {', '.join(NETWORKS)}, got {name!r}")
    return keras.Sequential([keras.Input(IMAGE_SHAPE, name="image"), *NETWORKS[name]()], name=f"digits_{name}")


def with_probabilities(network: keras.Model) -> keras.Model:
    """`network` with a softmax behind it, sharing its weights: the model that is saved and served."""
    return keras.Model(network.inputs[0], layers.Softmax(name="probabilities")(network.outputs[0]), name=network.name)

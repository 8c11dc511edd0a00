"""The networks. Importing this module imports TensorFlow, set up for this processor.

A network takes `float32 (n, 28, 28, 1)` in 0..1 and gives ten logits; `with_probabilities` makes the model that is
released, which gives probabilities.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from digits.errors import UsageError

IMAGE_SHAPE = (28, 28, 1)
CLASSES = 10


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what TensorFlow's C++ code writes to standard error while it starts; shown only if the block fails.

    Its log level comes too late for these lines, and says nothing a user can act on.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)


@contextmanager
def _without(names: list[str]) -> Iterator[None]:
    """Let imports in this block find none of the packages `names`, as where they are not installed."""
    sys.modules.update(dict.fromkeys(names))  # type: ignore[arg-type] # None is Python's own mark for it
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


def _has_avx2() -> bool:
    """Whether this processor has AVX2, as Linux tells; elsewhere TensorFlow's own choice stands."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and " avx2 " in cpuinfo.read_text(errors="replace")


# TensorFlow reads these once, when it is imported. oneDNN halves the training time on processors with AVX2, but
# TensorFlow switches it on by itself only where there is AVX-512 VNNI.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if _has_avx2():
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

# Keras takes these where they are, for plots and wrappers that nothing here uses; they are nearly half of its import.
_UNUSED = [name for name in ("matplotlib", "pandas", "scipy", "sklearn") if name not in sys.modules]

with quiet(), _without(_UNUSED):
    import keras
    import tensorflow as tf
    from keras import layers

    # Looked for now, while the complaints about none are kept. A GPU adds up in any order unless it is told otherwise;
    # the same seed would give other weights, and no time would be saved (docs/performance.md).
    if tf.config.list_physical_devices("GPU"):
        tf.config.experimental.enable_op_determinism()

__all__ = ["CLASSES", "IMAGE_SHAPE", "NETWORKS", "build", "keras", "quiet", "tf", "with_probabilities"]


def _convolutions(
    first: int, second: int, third: int, *, normalized: bool = False, dropout: float = 0.0
) -> list[keras.Layer]:
    def block(number: int, filters: int, kernel: int, *, pooled: bool = True) -> list[keras.Layer]:
        # Pooling before the activation gives the same values for a quarter of the work.
        return [
            layers.Conv2D(filters, kernel, use_bias=not normalized, name=f"conv{number}"),
            *([layers.MaxPooling2D(2, name=f"pool{number}")] if pooled else []),
            *([layers.BatchNormalization(momentum=0.9, name=f"norm{number}")] if normalized else []),
            layers.ReLU(name=f"relu{number}"),
        ]

    return [
        # The outermost two pixels are blank in almost every image; leaving them out saves a third of the work.
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


# Every layer has a name of its own: Keras's would count up, and with them the content of the saved files.
NETWORKS: dict[str, Callable[[], list[keras.Layer]]] = {
    "small": lambda: _convolutions(16, 32, 128),
    "large": lambda: _convolutions(16, 48, 128, normalized=True, dropout=0.3),
    "baseline": _baseline,  # the earlier design, to compare with
}


def build(name: str) -> keras.Model:
    """A network with fresh weights: `float32 (n, 28, 28, 1)` in 0..1 to `float32 (n, 10)` logits.

    Raises:
        UsageError: there is no network of that name; lists them.
    """
    if name not in NETWORKS:
        raise UsageError(f"expected a network of {', '.join(NETWORKS)}, got {name!r}")
    return keras.Sequential([keras.Input(IMAGE_SHAPE, name="image"), *NETWORKS[name]()], name=name)


def with_probabilities(network: keras.Model) -> keras.Model:
    """`network` with a softmax behind it, sharing its weights: the model that is saved and served."""
    probabilities = layers.Softmax(name="probabilities")(network.outputs[0])
    return keras.Model(network.inputs[0], probabilities, name=f"digits_{network.name}")

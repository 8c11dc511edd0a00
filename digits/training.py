"""Fits a network to labelled images. Importing this module imports TensorFlow."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from digits.augmentation import Augmentation
from digits.errors import UsageError
from digits.model import build, keras, tf, with_probabilities

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.uint8]
LabelledImages = tuple[Images, Labels]

_STEPS_PER_CALL = 50  # of the graph: few enough calls to cost nothing, short enough for Ctrl-C to be heard


@dataclass(frozen=True)
class Preset:
    """A tuned way of training: network, epochs, batch and augmentation."""

    network: str
    epochs: int
    batch_size: int
    augmentation: Augmentation


PRESETS = {
    "fast": Preset("fast", 3, 256, Augmentation()),
    "accurate": Preset("accurate", 8, 256, Augmentation(rotation=10, shear=0.1, scale=0.1, shift=1.5)),
}
BASELINE = Preset("baseline", 3, 20, Augmentation())
MODELS = ("default", "baseline")

# Peak of the learning rate over training, for batches of 256 images.
PEAK_RATES = {"adam": 1e-2, "adamw": 1e-2, "nadam": 5e-3, "adamax": 1e-2, "rmsprop": 2e-3, "sgd": 0.1}
_SETTINGS: dict[str, dict[str, Any]] = {
    "adam": {"beta_1": 0.7, "beta_2": 0.9},
    "adamw": {"beta_1": 0.7, "beta_2": 0.9},
    "sgd": {"momentum": 0.9, "nesterov": True},
}


@dataclass(frozen=True)
class TrainingConfig:
    """What a user may choose. 0 means: as the preset has it."""

    preset: str = "fast"
    model: str = "default"
    epochs: int = 0
    optimizer: str = "adam"
    batch_size: int = 0
    learning_rate: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, known in (
            ("preset", self.preset, PRESETS),
            ("model", self.model, MODELS),
            ("optimizer", self.optimizer, optimizers()),
        ):
            if value not in known:
                raise UsageError(f"{name}: expected one of {', '.join(known)}, got {value!r}")
        for name, number in (("epochs", self.epochs), ("batch_size", self.batch_size), ("seed", self.seed)):
            if number < 0:
                raise UsageError(f"{name}: expected a whole number of at least 0, got {number}")
        if not (0 <= self.learning_rate < math.inf):
            raise UsageError(f"learning_rate: expected a number of at least 0, got {self.learning_rate}")


@dataclass(frozen=True)
class EpochResult:
    """What one pass over the training images came to. Loss and accuracy are means over the epoch as it went."""

    epoch: int  # from 1
    loss: float
    accuracy: float  # 0..1
    val_loss: float
    val_accuracy: float
    seconds: float  # with validation


@dataclass(frozen=True)
class Trained:
    """A fitted model: `float32 (n, 28, 28, 1)` in 0..1 to `float32 (n, 10)` probabilities."""

    model: Any
    history: list[EpochResult] = field(default_factory=list)


def optimizers() -> tuple[str, ...]:
    """The names of Keras's optimizers, in lower case."""
    names = (name for name, kind in vars(keras.optimizers).items() if isinstance(kind, type))
    return tuple(
        sorted({name.lower() for name in names} - {"optimizer", "lossscaleoptimizer", "multioptimizer", "optimizermap"})
    )


def train(
    train: LabelledImages,
    validation: LabelledImages,
    config: TrainingConfig,
    on_epoch: Callable[[EpochResult], None] = lambda _: None,
) -> Trained:
    """Fit a network to `train`; `on_epoch` is told of each epoch as it ends. `validation` is only measured.

    Both are images `uint8 (n, 28, 28)` in 0..255 and labels `uint8 (n,)` in 0..9.
    """
    preset = BASELINE if config.model == "baseline" else PRESETS[config.preset]
    epochs = config.epochs or preset.epochs
    keras.utils.set_random_seed(config.seed)
    network = build(preset.network)
    batch_size = min(config.batch_size or preset.batch_size, len(train[0]))
    trainer = _Trainer(network, train, batch_size, preset, epochs, config)
    history = []
    for epoch in range(epochs):
        start = time.perf_counter()
        loss, accuracy = trainer.epoch(epoch)
        val_loss, val_accuracy = trainer.measure(validation)
        history.append(EpochResult(epoch + 1, loss, accuracy, val_loss, val_accuracy, time.perf_counter() - start))
        on_epoch(history[-1])
    return Trained(with_probabilities(network), history)


class _Trainer:
    """The loop, as a TensorFlow graph over images that stay in memory as uint8."""

    def __init__(
        self,
        network: keras.Model,
        data: LabelledImages,
        batch_size: int,
        preset: Preset,
        epochs: int,
        config: TrainingConfig,
    ) -> None:
        self.network, self.batch_size, self.augmentation = network, batch_size, preset.augmentation
        self.images, self.labels = tf.constant(data[0][..., None]), tf.constant(data[1], tf.int32)
        self.steps = len(data[0]) // batch_size
        self.random = np.random.default_rng(config.seed)
        self.seed = config.seed
        self.rates = _rates(preset, config, epochs * self.steps)
        self.optimizer = _optimizer(config.optimizer)
        self.optimizer.build(network.trainable_variables)
        self._steps = tf.function(self._run_steps, reduce_retracing=True)
        self._measure = tf.function(self._run_measure, reduce_retracing=True)

    def epoch(self, epoch: int) -> tuple[float, float]:
        order = self.random.permutation(len(self.images))[: self.steps * self.batch_size]
        batches = order.reshape(self.steps, self.batch_size).astype(np.int32)
        loss, right = 0.0, 0.0
        for start in range(0, self.steps, _STEPS_PER_CALL):
            part = batches[start : start + _STEPS_PER_CALL]
            first = epoch * self.steps + start
            sums = self._steps(
                tf.constant(part), tf.constant(self.rates[first : first + len(part)]), tf.constant(first)
            )
            loss, right = loss + float(sums[0]), right + float(sums[1])
        return loss / self.steps, right / order.size

    def _run_steps(self, batches: tf.Tensor, rates: tf.Tensor, first: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        total, right = tf.constant(0.0), tf.constant(0.0)
        for i in tf.range(tf.shape(batches)[0]):
            images = tf.cast(tf.gather(self.images, batches[i]), tf.float32) / 255.0
            images = self.augmentation(images, tf.stack([self.seed, (first + i) * 4]))
            labels = tf.gather(self.labels, batches[i])
            with tf.GradientTape() as tape:
                logits = self.network(images, training=True)
                loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
            weights = self.network.trainable_variables
            self.optimizer.learning_rate.assign(rates[i])
            self.optimizer.apply(tape.gradient(loss, weights), weights)
            total += loss
            right += tf.reduce_sum(tf.cast(tf.argmax(logits, 1, tf.int32) == labels, tf.float32))
        return total, right

    def measure(self, data: LabelledImages) -> tuple[float, float]:
        loss, right = 0.0, 0.0
        for start in range(0, len(data[0]), 1000):
            images, labels = data[0][start : start + 1000, ..., None], data[1][start : start + 1000]
            sums = self._measure(tf.constant(images), tf.constant(labels, tf.int32))
            loss, right = loss + float(sums[0]), right + float(sums[1])
        return loss / len(data[0]), right / len(data[0])

    def _run_measure(self, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        logits = self.network(tf.cast(images, tf.float32) / 255.0, training=False)
        loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        return loss, tf.reduce_sum(tf.cast(tf.argmax(logits, 1, tf.int32) == labels, tf.float32))


def _optimizer(name: str) -> keras.optimizers.Optimizer:
    kind = next(kind for key, kind in vars(keras.optimizers).items() if key.lower() == name and isinstance(kind, type))
    return kind(**_SETTINGS.get(name, {}))


def _rates(preset: Preset, config: TrainingConfig, steps: int) -> npt.NDArray[np.float32]:
    """The learning rate of each step: flat for the baseline, else one cycle of two half cosines."""
    if preset is BASELINE:
        return np.full(steps, config.learning_rate or 1e-3, np.float32)
    default = keras.optimizers.get(config.optimizer).learning_rate
    peak = config.learning_rate or PEAK_RATES.get(config.optimizer) or 4 * float(default)
    up = max(1, round(0.3 * steps))
    rise = np.linspace(0, math.pi, up, endpoint=False)
    fall = np.linspace(0, math.pi, steps - up)
    low = peak / 25
    rates = np.concatenate([low + (peak - low) * (1 - np.cos(rise)) / 2, peak * (1 + np.cos(fall)) / 2])
    return rates.astype(np.float32)

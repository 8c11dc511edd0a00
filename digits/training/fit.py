"""Fits a network to labelled images. Importing this module imports TensorFlow; `digits.training.recipe` doesn't."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from digits.errors import DataError, DigitsError, UsageError
from digits.training.augmentation import augment
from digits.training.networks import build, keras, tf, with_probabilities
from digits.training.pen_styles import drawn
from digits.training.recipe import BASELINE, TrainingConfig, learning_rates

__all__ = ["EpochResult", "LabelledImages", "Trained", "TrainingConfig", "train"]

LabelledImages = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]  # (n, 28, 28) in 0..255, (n,) in 0..9

_STEPS_PER_CALL = 50  # of the graph: few enough calls to cost nothing, short enough for Ctrl-C to be heard
_MEASURED_AT_ONCE = 1000  # images
_ADAM = {"beta_1": 0.7, "beta_2": 0.9}  # shorter memory, for a run of a few hundred steps
_SETTINGS: dict[str, dict[str, Any]] = {
    "adafactor": {"epsilon_1": 1e-16},  # Keras's 1e-30 underflows when squared, and blank pixels make it not a number
    "adam": _ADAM,
    "adamw": _ADAM,
    "nadam": _ADAM,
    "sgd": {"momentum": 0.9, "nesterov": True},
}

# Optimizers that are not Keras's own: the name in `digits.training.recipe.OPTIMIZERS`, in small letters, and the class.
OWN: dict[str, type[keras.optimizers.Optimizer]] = {}


@dataclass(frozen=True)
class EpochResult:
    """What one pass over the training images came to. Loss and accuracy are means over the pass as it went."""

    epoch: int  # from 1
    loss: float
    accuracy: float  # 0..1
    val_loss: float
    val_accuracy: float
    seconds: float  # with validation; the first with building the graph


@dataclass(frozen=True)
class Trained:
    """A fitted Keras model, `float32 (n, 28, 28, 1)` in 0..1 to `float32 (n, 10)` probabilities, and how it went."""

    model: Any
    history: list[EpochResult]


def train(
    train: LabelledImages,
    validation: LabelledImages,
    config: TrainingConfig,
    on_epoch: Callable[[EpochResult], None] = lambda _: None,
    *,
    styled: bool = True,
) -> Trained:
    """Fit a network to `train`; `on_epoch` is told of each epoch as it ends. `validation` is only measured.

    If `styled`, the images are handwritten digits, and the preset's share of generated styles
    (digits.training.pen_styles) is added.

    The same data, choice and machine give the same weights, bit for bit.

    Raises:
        UsageError: there is no optimizer of that name, though OPTIMIZERS offers it; says so before anything is trained.
        DataError: images or labels have another shape or type than LabelledImages says.
        DigitsError: a weight is no longer a number, as the learning rate was too large.
    """
    for name, data in (("training", train), ("validation", validation)):
        _check(name, *data)
    keras.utils.set_random_seed(config.seed)
    history: list[EpochResult] = []
    started = time.perf_counter()

    def ended(loss: float, accuracy: float) -> None:
        nonlocal started
        if not all(np.isfinite(weight.numpy()).all() for weight in network.weights):
            raise DigitsError(
                f"the weights ran away in epoch {len(history) + 1}: optimizer {config.optimizer}, "
                f"learning rate {config.learning_rate or 'of the preset'}",
                remedy="a smaller learning rate, or the optimizer adam",
            )
        val_loss, val_accuracy = measure(validation)
        seconds = time.perf_counter() - started
        history.append(EpochResult(len(history) + 1, loss, accuracy, val_loss, val_accuracy, seconds))
        on_epoch(history[-1])
        started = time.perf_counter()

    if styled and config.how.styles:
        others = drawn(round(config.how.styles * len(train[0])), config.seed)
        train = np.concatenate([train[0], others[0]]), np.concatenate([train[1], others[1]])
    network = build(config.how.network)
    measure = _measure(network)
    fit = _fit_as_before if config.how is BASELINE else _fit
    fit(network, train, config, ended)
    return Trained(with_probabilities(network), history)


_Ended = Callable[[float, float], None]  # told the loss and the accuracy of each epoch


def _fit(network: keras.Model, data: LabelledImages, config: TrainingConfig, ended: _Ended) -> None:
    """Our loop: a TensorFlow graph over images that stay in memory as uint8.

    Each step gathers a batch, scales and changes it, and takes its learning rate from the schedule.
    """
    epochs, batch_size = config.epochs or config.how.epochs, config.batch_size or config.how.batch_size
    images, labels = tf.constant(data[0][..., None]), tf.constant(data[1], tf.int32)
    batch_size = min(batch_size, len(images))
    steps = len(images) // batch_size
    rates = np.array(learning_rates(config, epochs * steps, batch_size), np.float32)
    changed = round((1 - config.how.plain) * len(rates))
    optimizer = _optimizer(config.optimizer, _SETTINGS.get(config.optimizer, {}))
    weights = network.trainable_variables
    optimizer.build(weights)

    def run(batches: tf.Tensor, rates: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
        loss_and_right = tf.zeros(2)
        for i in tf.range(tf.shape(batches)[0]):
            batch = tf.cast(tf.gather(images, batches[i]), tf.float32) / 255.0
            if first + i < changed:
                batch = augment(batch, tf.stack([config.seed, 2 * (first + i)]), config.how.augmentation)
            wanted = tf.gather(labels, batches[i])
            with tf.GradientTape() as tape:
                logits = network(batch, training=True)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(wanted, logits)
                loss = tf.reduce_mean(losses)
            optimizer.learning_rate.assign(rates[i])
            optimizer.apply(tape.gradient(loss, weights), weights)
            loss_and_right += _loss_and_right(logits, wanted)
        return loss_and_right

    run = tf.function(
        run,
        input_signature=[
            tf.TensorSpec([None, batch_size], tf.int32),
            tf.TensorSpec([None], tf.float32),
            tf.TensorSpec([], tf.int32),
        ],
    )
    random = np.random.default_rng(config.seed)
    for epoch in range(epochs):
        # What doesn't fill a batch is left out, and is another part each time.
        order = random.permutation(len(images))[: steps * batch_size].reshape(steps, batch_size).astype(np.int32)
        sums = np.zeros(2)
        for start in range(0, steps, _STEPS_PER_CALL):
            part, first = order[start : start + _STEPS_PER_CALL], epoch * steps + start
            sums += run(part, rates[first : first + len(part)], first).numpy()
        if epoch + 1 == epochs:
            optimizer.finalize_variable_values(weights)
        loss, right = sums / order.size
        ended(float(loss), float(right))


def _fit_as_before(network: keras.Model, data: LabelledImages, config: TrainingConfig, ended: _Ended) -> None:
    """The earlier design's way, to compare with: Keras's `fit` over all images as float32, flat learning rate."""
    optimizer = _optimizer(config.optimizer, {})
    if config.learning_rate:
        optimizer.learning_rate = config.learning_rate
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(optimizer, loss, metrics=["accuracy"])
    network.fit(
        data[0][..., None] / np.float32(255),
        data[1],
        batch_size=config.batch_size or config.how.batch_size,
        epochs=config.epochs or config.how.epochs,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=lambda _, logs: ended(logs["loss"], logs["accuracy"]))],
    )


def _measure(network: keras.Model) -> Callable[[LabelledImages], tuple[float, float]]:
    """A function that gives a network's mean loss and accuracy on labelled images."""

    def batch(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        return _loss_and_right(network(tf.cast(images, tf.float32) / 255.0, training=False), labels)

    batch = tf.function(
        batch, input_signature=[tf.TensorSpec([None, 28, 28, 1], tf.uint8), tf.TensorSpec([None], tf.int32)]
    )

    def measure(data: LabelledImages) -> tuple[float, float]:
        images, labels = data[0][..., None], data[1].astype(np.int32)
        parts = [slice(i, i + _MEASURED_AT_ONCE) for i in range(0, len(images), _MEASURED_AT_ONCE)]
        loss, right = sum(batch(images[part], labels[part]).numpy() for part in parts) / len(images)
        return float(loss), float(right)

    return measure


def _loss_and_right(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The sum of the losses and the number of right answers, `float32 (2,)`."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    right = tf.cast(tf.argmax(logits, 1, tf.int32) == labels, tf.float32)
    return tf.stack([tf.reduce_sum(losses), tf.reduce_sum(right)])


def _optimizer(name: str, settings: dict[str, Any]) -> keras.optimizers.Optimizer:
    """The optimizer of that name, ours or Keras's, with some settings. Raises UsageError."""
    theirs = {key.lower(): kind for key, kind in vars(keras.optimizers).items()}  # its own `get` lacks some
    kind = OWN.get(name, theirs.get(name))
    if not (isinstance(kind, type) and issubclass(kind, keras.optimizers.Optimizer)):
        raise UsageError(
            f"optimizer: expected one of Keras's or of OWN in digits/training/fit.py, got {name!r}",
            remedy="take it out of OPTIMIZERS in digits/training/recipe.py, or add its class to OWN",
        )
    return kind(**settings)


def _check(name: str, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> None:
    fits = images.ndim == 3 and images.shape[1:] == (28, 28) and images.dtype == np.uint8
    if not fits or not len(images) or labels.shape != images.shape[:1] or labels.dtype != np.uint8:
        raise DataError(
            f"{name} data: expected images uint8 (n, 28, 28) and labels uint8 (n,) with n > 0, "
            f"got {images.dtype} {images.shape} and {labels.dtype} {labels.shape}"
        )

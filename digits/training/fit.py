"""Training of a network on labelled images. Importing this module imports TensorFlow; `recipe` does not."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from digits.data.dataset import Dataset
from digits.data.preprocessing import FIELD
from digits.errors import DataError, DigitsError
from digits.tasks.task import Task
from digits.training import optimizers, pen_styles
from digits.training.augmentation import augment
from digits.training.networks import build, with_probabilities
from digits.training.recipe import BASELINE, Augmentation, TrainingConfig, learning_rates
from digits.training.temperature import fit_temperature
from digits.training.tensorflow import keras, tf

LabelledImages = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]  # as in a Dataset
_Report = Callable[[float, float], None]  # called with the loss and the accuracy of each epoch

_STEPS_PER_CALL = 50  # of the graph: calls are rare enough to cost little and short enough to react to Ctrl-C
_EVALUATION_BATCH = 1000  # images


@dataclass(frozen=True)
class EpochResult:
    """The result of one pass over the training images. Loss and accuracy are means over the steps of the pass."""

    epoch: int  # from 1
    loss: float
    accuracy: float  # 0..1
    val_loss: float
    val_accuracy: float
    seconds: float  # including the evaluation; the first also includes building the graph


@dataclass(frozen=True)
class Trained:
    """A trained Keras model of `networks.with_probabilities`, and its history.

    The logits are divided by the temperature, by its last layer's weights. The history is of the logits before.
    """

    model: Any
    history: list[EpochResult]
    temperature: float


def train(
    training: LabelledImages,
    validation: LabelledImages,
    config: TrainingConfig,
    on_epoch: Callable[[EpochResult], None] = lambda _: None,
    *,
    task: Task,
    repeats: int = 1,
    add_styles: bool = True,
) -> Trained:
    """Train a network of a task. The same data, configuration and machine give the same weights, bit for bit.

    `validation` is evaluated after each epoch, and `on_epoch` is then called; it also determines the temperature. An
    epoch has each image of `training` `repeats` times, so that a small data set gives enough training steps. If
    `add_styles` and the task's images are digits as MNIST's, generated ones are added to `training` (the preset's
    share).

    Raises:
        UsageError: Keras has no optimizer of that name; raised before training starts.
        DataError: images or labels have another shape or type than LabelledImages states, or there are none.
        DigitsError: training diverged, because the learning rate is too large.
    """
    for name, data in (("training", training), ("validation", validation)):
        if not len(Dataset(*data).check(task)):
            raise DataError(f"{name} data: expected at least one image")
    keras.utils.set_random_seed(config.seed)
    started = time.perf_counter()
    preset = config.preset_config
    epoch = np.tile(np.arange(len(training[0]), dtype=np.int32), repeats)  # the images of an epoch
    if add_styles and preset.generated_share and task.is_number and task.shape == (FIELD, FIELD):
        count = round(preset.generated_share * repeats * len(training[0]))
        generated = pen_styles.generate(count, config.seed)
        training = np.concatenate([training[0], generated[0]]), np.concatenate([training[1], generated[1]])
        epoch = np.concatenate([epoch, np.arange(-count, 0, dtype=np.int32) + len(training[0])])
    training, validation = (
        (images.reshape(-1, *task.input_shape), labels) for images, labels in (training, validation)
    )
    network = build(preset.network, task)
    evaluate = _evaluator(network)
    history: list[EpochResult] = []

    def report(loss: float, accuracy: float) -> None:
        nonlocal started
        _check_weights(network, config, len(history) + 1)
        val_loss, val_accuracy = evaluate(validation)
        seconds = time.perf_counter() - started
        history.append(EpochResult(len(history) + 1, loss, accuracy, val_loss, val_accuracy, seconds))
        on_epoch(history[-1])
        started = time.perf_counter()

    if preset is BASELINE:
        _fit_baseline(network, (training[0][epoch], training[1][epoch]), config, report)
    else:
        _fit(network, training, epoch, config, preset.augmentation_of(task), report)
    temperature = _calibrate(network, validation)
    return Trained(with_probabilities(network), history, temperature)


def _fit(
    network: keras.Model,
    data: LabelledImages,
    images: npt.NDArray[np.int32],
    config: TrainingConfig,
    ranges: Augmentation,
    report: _Report,
) -> None:
    """Train with a TensorFlow graph that runs many steps per call, on images kept in memory as uint8.

    `images` are the indices of the images of an epoch.
    """
    preset, optimizer = config.preset_config, optimizers.create(config.optimizer)
    epochs, batch_size = config.epochs or preset.epochs, min(config.batch_size or preset.batch_size, len(images))
    steps = len(images) // batch_size
    rates = np.array(learning_rates(config, epochs * steps, batch_size), np.float32)
    augmented = round((1 - preset.unaugmented_share) * len(rates))
    optimizer.build(network.trainable_variables)

    def change(batch: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        if step < augmented:
            batch = augment(batch, tf.stack([config.seed, 2 * step]), ranges)
        return batch

    run = _training_graph(network, optimizer, data, change, batch_size)
    random = np.random.default_rng(config.seed)
    for number in range(epochs):
        # Images that do not fill a batch are left out; the order is random, so each epoch omits different ones.
        order = images[random.permutation(len(images))[: steps * batch_size]].reshape(steps, batch_size)
        sums = np.zeros(2)
        for start in range(0, steps, _STEPS_PER_CALL):
            part, first = order[start : start + _STEPS_PER_CALL], number * steps + start
            sums += run(part, rates[first : first + len(part)], first).numpy()
        if number + 1 == epochs:
            optimizer.finalize_variable_values(network.trainable_variables)
        loss, accuracy = sums / order.size
        report(float(loss), float(accuracy))


def _training_graph(
    network: keras.Model,
    optimizer: Any,
    data: LabelledImages,
    change: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    batch_size: int,
) -> Any:
    """Return a TensorFlow function that trains a number of steps and returns their sums of loss and correct answers.

    It takes the images' indices of each batch, int32 (steps, batch_size), the learning rates, float32 (steps,), and the
    number of the first step, int32. `change` returns the augmented images, given a batch and the step's number.
    """
    images, labels = tf.constant(data[0]), tf.constant(data[1], tf.int32)
    weights = network.trainable_variables

    def run(batches: tf.Tensor, rates: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
        sums = tf.zeros(2)
        for i in tf.range(tf.shape(batches)[0]):
            batch = change(tf.cast(tf.gather(images, batches[i]), tf.float32) / 255.0, first + i)
            expected = tf.gather(labels, batches[i])
            with tf.GradientTape() as tape:
                logits = network(batch, training=True)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(expected, logits)
                loss = tf.reduce_mean(losses)
            optimizer.learning_rate.assign(rates[i])
            optimizer.apply(tape.gradient(loss, weights), weights)
            sums += _loss_and_correct(logits, expected)
        return sums

    signature = [
        tf.TensorSpec([None, batch_size], tf.int32),
        tf.TensorSpec([None], tf.float32),
        tf.TensorSpec([], tf.int32),
    ]
    return tf.function(run, input_signature=signature)


def _fit_baseline(network: keras.Model, data: LabelledImages, config: TrainingConfig, report: _Report) -> None:
    """Train like the earlier design, for comparison: Keras's `fit`, images as float32, a constant learning rate."""
    preset, optimizer = config.preset_config, optimizers.create(config.optimizer, tuned=False)
    if config.learning_rate:
        optimizer.learning_rate = config.learning_rate
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(optimizer, loss, metrics=["accuracy"])
    network.fit(
        data[0] / np.float32(255),
        data[1],
        batch_size=config.batch_size or preset.batch_size,
        epochs=config.epochs or preset.epochs,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=lambda _, logs: report(logs["loss"], logs["accuracy"]))],
    )


def _evaluator(network: keras.Model) -> Callable[[LabelledImages], tuple[float, float]]:
    """Return a function that computes the network's mean loss and accuracy on labelled images."""

    def run(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        return _loss_and_correct(network(tf.cast(images, tf.float32) / 255.0, training=False), labels)

    shape = [None, *network.input_shape[1:]]
    run = tf.function(run, input_signature=[tf.TensorSpec(shape, tf.uint8), tf.TensorSpec([None], tf.int32)])

    def evaluate(data: LabelledImages) -> tuple[float, float]:
        images, labels = data[0], data[1].astype(np.int32)
        parts = [slice(i, i + _EVALUATION_BATCH) for i in range(0, len(images), _EVALUATION_BATCH)]
        loss, accuracy = sum(run(images[part], labels[part]).numpy() for part in parts) / len(images)
        return float(loss), float(accuracy)

    return evaluate


def _calibrate(network: keras.Model, data: LabelledImages) -> float:
    """Divide the network's logits by the temperature that `data` needs. Return the temperature."""
    parts = [data[0][i : i + _EVALUATION_BATCH] for i in range(0, len(data[0]), _EVALUATION_BATCH)]
    logits = np.concatenate([network(part / np.float32(255), training=False).numpy() for part in parts])
    temperature = fit_temperature(logits, data[1])
    last = network.get_layer("logits")
    last.set_weights([weights / np.float32(temperature) for weights in last.get_weights()])
    return temperature


def _loss_and_correct(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Return the sum of the losses and the number of correct answers, `float32 (2,)`."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    correct = tf.cast(tf.argmax(logits, 1, tf.int32) == labels, tf.float32)
    return tf.stack([tf.reduce_sum(losses), tf.reduce_sum(correct)])


def _check_weights(network: keras.Model, config: TrainingConfig, epoch: int) -> None:
    if not all(np.isfinite(weight.numpy()).all() for weight in network.weights):
        raise DigitsError(
            f"training diverged (non-finite weights) in epoch {epoch}: optimizer {config.optimizer}, "
            f"learning rate {config.learning_rate or 'of the preset'}",
            remedy="a smaller learning rate, or the optimizer adam",
        )

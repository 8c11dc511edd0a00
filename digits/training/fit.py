"""Training of a network on labelled images. Importing this module imports TensorFlow; `recipe` does not."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from digits.data.blocks import Blocks, in_memory
from digits.data.dataset import Dataset, empty
from digits.data.preprocessing import FIELD
from digits.errors import DataError, DigitsError, Unavailable
from digits.tasks.task import Task
from digits.training import optimizers, pen_styles, shards
from digits.training.augmentation import augment
from digits.training.batches import Batches
from digits.training.checkpoints import Checkpoint, Checkpoints
from digits.training.networks import build, with_probabilities
from digits.training.recipe import BASELINE, LABEL_SMOOTHING, Augmentation, TrainingConfig, learning_rates
from digits.training.temperature import fit_temperature
from digits.training.tensorflow import keras, tf
from digits.training.workers import ALONE, Group

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
    training: LabelledImages | Blocks,
    validation: LabelledImages,
    config: TrainingConfig,
    on_epoch: Callable[[EpochResult], None] = lambda _: None,
    *,
    task: Task,
    repeats: int = 1,
    add_styles: bool = True,
    checkpoints: Checkpoints = Checkpoints(),  # noqa: B008 # frozen
    group: Group = ALONE,
) -> Trained:
    """Train a network of a task. The same data, configuration and machine give the same weights, bit for bit.

    `validation` is evaluated after each epoch, and `on_epoch` is then called; it also determines the temperature. An
    epoch has each image of `training` `repeats` times, so that a small data set gives enough training steps. If
    `add_styles` and the task's images are digits as MNIST's, generated ones are added to `training` (the preset's
    share).

    After each epoch a checkpoint is written, and a training begins after the last one; the result is the same. The
    workers of `group` train together, each with the same arguments. The baseline has neither.

    Raises:
        UsageError: Keras has no optimizer of that name, or the batch cannot be divided among the workers; raised before
            training starts.
        DataError: images or labels have another shape or type than LabelledImages states, or there are none.
        DigitsError: training diverged, because the learning rate is too large.
    """
    images = training if isinstance(training, Blocks) else in_memory(Dataset(*training))
    for name, data in (("training", images), ("validation", Dataset(*validation).check(task))):
        if not len(data):
            raise DataError(f"{name} data: expected at least one image")
    keras.utils.set_random_seed(config.seed)
    started = time.perf_counter()
    preset, generated = config.preset_config, empty(task.shape)
    if add_styles and preset.generated_share and task.is_number and task.shape == (FIELD, FIELD):
        count = round(preset.generated_share * repeats * images.largest)
        generated = Dataset(*pen_styles.generate(count, config.seed))
    batches = Batches(images, task, repeats, generated)
    validation = validation[0].reshape(-1, *task.input_shape), validation[1]
    network = build(preset.network, task)
    evaluate = _evaluator(network)
    last = checkpoints.load() if preset is not BASELINE else None
    history = [EpochResult(**each) for each in last.history] if last else []

    def report(loss: float, accuracy: float) -> None:
        nonlocal started
        _check_weights(network, config, len(history) + 1)
        val_loss, val_accuracy = evaluate(validation)
        seconds = time.perf_counter() - started
        history.append(EpochResult(len(history) + 1, loss, accuracy, val_loss, val_accuracy, seconds))
        on_epoch(history[-1])
        started = time.perf_counter()

    def save(random: dict[str, Any], variables: list[npt.NDArray[Any]]) -> None:
        checkpoints.save(Checkpoint(len(history), [vars(each) for each in history], random, variables))

    if preset is BASELINE:
        _fit_baseline(network, batches.whole(), config, report)
    else:
        _fit(network, batches, config, preset.augmentation_of(task), group, last, report, save)
    temperature = _calibrate(network, validation)
    return Trained(with_probabilities(network), history, temperature)


def _fit(
    network: keras.Model,
    batches: Batches,
    config: TrainingConfig,
    ranges: Augmentation,
    group: Group,
    last: Checkpoint | None,
    report: _Report,
    save: Callable[[dict[str, Any], list[npt.NDArray[Any]]], None],
) -> None:
    """Train with a TensorFlow graph that runs many steps per call.

    The training begins after the checkpoint `last`. After each epoch `report` is called, and `save` with the state of
    the random numbers and the variables.
    """
    preset, optimizer = config.preset_config, optimizers.create(config.optimizer)
    epochs, batch_size = config.epochs or preset.epochs, min(config.batch_size or preset.batch_size, len(batches))
    if config.shards:
        config.check_workers(group.count)
        batch_size -= batch_size % config.shards
    steps = len(batches) // batch_size
    rates = np.array(learning_rates(config, epochs * steps, batch_size), np.float32)
    augmented = round((1 - preset.unaugmented_share) * len(rates))
    optimizer.build(network.trainable_variables)

    def vary(images: tf.Tensor, step: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        """Return images as the network's input; `number` fixes the random changes to them."""
        values = tf.cast(images, tf.float32) / 255.0
        if step < augmented:
            values = augment(values, tf.stack([config.seed, 2 * number]), ranges)
        return values

    def score(logits: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return _score(logits, labels, LABEL_SMOOTHING if batches.task.reading == "pen" else 0.0)

    if config.shards:
        compute = shards.gradients(network, vary, score, config.shards, group)
    else:
        compute = _batch_gradients(network, vary, score)
    run = _training_graph(network, optimizer, compute, batch_size)
    random = np.random.default_rng(config.seed)
    variables = [*network.variables, *optimizer.variables]
    completed = last.epoch if last else 0
    if last:
        random.bit_generator.state = last.random
        for variable, value in zip(variables, last.variables, strict=True):
            variable.assign(value)
    _check_together(group, completed)
    for number in range(completed, epochs):
        first, sums = number * steps, np.zeros(2)
        for images, labels in batches.epoch(random, batch_size, _STEPS_PER_CALL):
            sums += run(images, labels.astype(np.int32), rates[first : first + len(images)], first).numpy()
            first += len(images)
        if number + 1 == epochs:
            optimizer.finalize_variable_values(network.trainable_variables)
        loss, accuracy = sums / (steps * batch_size)
        report(float(loss), float(accuracy))
        save(dict(random.bit_generator.state), [variable.numpy() for variable in variables])


def _batch_gradients(network: keras.Model, vary: shards.Vary, score: shards.Score) -> shards.Compute:
    """Return a function that computes the gradient of a whole batch; see `shards.gradients`."""
    weights = network.trainable_variables

    def compute(images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        batch = vary(images, step, step)
        with tf.GradientTape() as tape:
            loss, sums = score(network(batch, training=True), labels)
        return tape.gradient(loss, weights), sums

    return compute


def _training_graph(network: keras.Model, optimizer: Any, compute: shards.Compute, batch_size: int) -> Any:
    """Return a TensorFlow function that trains a number of steps and returns their sums of loss and correct answers.

    It takes the images, uint8 (steps, batch_size, height, width, channels), their labels, int32 (steps, batch_size),
    the learning rates, float32 (steps,), and the number of the first step, int32.
    """

    def run(images: tf.Tensor, labels: tf.Tensor, rates: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
        sums = tf.zeros(2)
        for i in tf.range(tf.shape(rates)[0]):
            gradients, result = compute(images[i], labels[i], first + i)
            optimizer.learning_rate.assign(rates[i])
            optimizer.apply(gradients, network.trainable_variables)
            sums += result
        return sums

    signature = [
        tf.TensorSpec([None, batch_size, *network.input_shape[1:]], tf.uint8),
        tf.TensorSpec([None, batch_size], tf.int32),
        tf.TensorSpec([None], tf.float32),
        tf.TensorSpec([], tf.int32),
    ]
    return tf.function(run, input_signature=signature)


def _check_together(group: Group, completed: int) -> None:
    """Raise Unavailable unless all workers begin after the same epoch."""
    if group.count > 1:
        together = tf.function(group.gather)(tf.constant([completed])).numpy()
        if (together != completed).any():
            raise Unavailable(f"the workers read checkpoints of different epochs: {sorted(set(together.tolist()))}")


def _fit_baseline(network: keras.Model, data: Dataset, config: TrainingConfig, report: _Report) -> None:
    """Train like the earlier design, for comparison: Keras's `fit`, all images as float32, a constant learning rate."""
    preset, optimizer = config.preset_config, optimizers.create(config.optimizer, tuned=False)
    if config.learning_rate:
        optimizer.learning_rate = config.learning_rate
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(optimizer, loss, metrics=["accuracy"])
    network.fit(
        data.images.reshape(-1, *network.input_shape[1:]) / np.float32(255),
        data.labels,
        batch_size=config.batch_size or preset.batch_size,
        epochs=config.epochs or preset.epochs,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=lambda _, logs: report(logs["loss"], logs["accuracy"]))],
    )


def _evaluator(network: keras.Model) -> Callable[[LabelledImages], tuple[float, float]]:
    """Return a function that computes the network's mean loss and accuracy on labelled images."""

    def run(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        return _score(network(tf.cast(images, tf.float32) / 255.0, training=False), labels)[1]

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


def _score(logits: tf.Tensor, labels: tf.Tensor, smoothing: float = 0.0) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the mean loss with smoothed labels, and the sum of the losses with the number of correct answers.

    The latter are `float32 (2,)`; their losses are without smoothing. `smoothing` is the share of each label that is
    divided among all classes (Szegedy et al., Rethinking the Inception Architecture, CVPR 2016).
    """
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    correct = tf.cast(tf.argmax(logits, 1, tf.int32) == labels, tf.float32)
    minimised = losses
    if smoothing:
        minimised = (1 - smoothing) * losses - smoothing * tf.reduce_mean(tf.nn.log_softmax(logits), axis=1)
    return tf.reduce_mean(minimised), tf.stack([tf.reduce_sum(losses), tf.reduce_sum(correct)])


def _check_weights(network: keras.Model, config: TrainingConfig, epoch: int) -> None:
    if not all(np.isfinite(weight.numpy()).all() for weight in network.weights):
        raise DigitsError(
            f"training diverged (non-finite weights) in epoch {epoch}: optimizer {config.optimizer}, "
            f"learning rate {config.learning_rate or 'of the preset'}",
            remedy="a smaller learning rate, or the optimizer adam",
        )

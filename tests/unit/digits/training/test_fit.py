"""Training on scikit-learn's digits, which need no download and little time."""

import dataclasses
import functools
import subprocess
import sys

import numpy as np
import pytest

from digits.data import blocks
from digits.data.dataset import Dataset
from digits.errors import DataError, DigitsError, UsageError
from digits.settings import Settings
from digits.tasks.task import find
from digits.training import fit
from digits.training.checkpoints import Checkpoints
from digits.training.export import weights_digest
from digits.training.optimizers import OPTIMIZERS, Optimizer
from digits.training.recipe import PRESETS, Augmentation, Preset, TrainingConfig
from digits.training.temperature import fit_temperature
from digits.training.tensorflow import keras

pytestmark = pytest.mark.slow  # all of them together
DIGITS = find("digits")
train = functools.partial(fit.train, task=DIGITS)


@pytest.fixture(scope="module")
def digits():
    """Return 1,500 training images and 297 validation images."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    large = np.kron(images.reshape(-1, 8, 8), np.ones((3, 3))) * (255 / 16)
    images = np.pad(large, ((0, 0), (2, 2), (2, 2))).astype(np.uint8)
    labels = labels.astype(np.uint8)
    return (images[:1500], labels[:1500]), (images[1500:], labels[1500:])


@pytest.fixture(scope="module")
def learned(digits):
    """Return a short training, what it reported after each epoch, and the validation logits before its calibration."""
    reported, logits = [], []

    def record(values, labels):
        logits.append(values)
        return fit_temperature(values, labels)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("digits.training.fit.fit_temperature", record)
        trained = train(*digits, TrainingConfig(epochs=4, batch_size=64), reported.append)
    return trained, reported, logits[0]


def softmax(logits):
    """Return the probabilities of logits, float32 (n, classes)."""
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


@pytest.fixture(scope="module")
def one_epoch(digits):
    """Return the digest of the weights after one epoch with the preset fast."""
    return weights_digest(train(*digits, TrainingConfig(epochs=1, batch_size=64)).model)


def test_training_learns_and_reports_each_epoch(digits, learned):
    """A short training recognises most validation images, and reports each epoch when it ends."""
    trained, reported, _ = learned
    assert [result.epoch for result in reported] == [1, 2, 3, 4]
    assert reported == trained.history
    assert reported[-1].val_accuracy > 0.85
    assert reported[-1].loss < reported[0].loss
    assert all(result.seconds > 0 for result in reported)
    images, labels = digits[1]
    probabilities = trained.model(images[..., None] / np.float32(255)).numpy()
    assert (probabilities.argmax(1) == labels).mean() == pytest.approx(reported[-1].val_accuracy)


def test_the_probabilities_are_calibrated_on_the_validation_set(digits, learned):
    """The last layer's weights are divided by the temperature: the loss falls, and the answers stay."""
    trained, reported, logits = learned
    images, labels = digits[1][0][..., None] / np.float32(255), digits[1][1]
    before = softmax(logits)
    after = trained.model(images).numpy()
    losses = [-np.log(each[np.arange(len(labels)), labels]).mean() for each in (before, after)]
    assert losses[1] < losses[0] == pytest.approx(reported[-1].val_loss, rel=1e-4)
    assert trained.temperature != 1.0
    assert (before.argmax(1) == after.argmax(1)).all()
    assert np.allclose(np.diff(np.log(before)), trained.temperature * np.diff(np.log(after)), atol=1e-2)


def test_smoothed_labels_make_the_network_less_certain(digits, monkeypatch):
    """A larger share of smoothed labels lowers the probabilities before calibration, which then makes up for it."""
    certainty, temperatures = [], []
    monkeypatch.setattr(
        "digits.training.fit.fit_temperature",
        lambda logits, labels: (certainty.append(softmax(logits).max(1).mean()), fit_temperature(logits, labels))[1],
    )
    for share in (0.0, 0.4):
        monkeypatch.setattr("digits.training.fit.LABEL_SMOOTHING", share)
        temperatures.append(train(*digits, TrainingConfig(epochs=2, batch_size=64)).temperature)
    assert certainty[1] < certainty[0] - 0.1
    assert temperatures[1] < temperatures[0]


def test_the_same_seed_gives_the_same_weights(digits, one_epoch):
    """Training twice with one seed gives identical weights."""
    assert weights_digest(train(*digits, TrainingConfig(epochs=1, batch_size=64)).model) == one_epoch
    config = TrainingConfig(preset="accurate", epochs=1, batch_size=64, seed=1)
    few = digits[0][0][:300], digits[0][1][:300]
    first, second = (weights_digest(train(few, digits[1], config).model) for _ in range(2))
    assert first == second


def test_the_seed_and_generated_digits_change_the_weights(digits, one_epoch, monkeypatch):
    """The preset's share of generated digits is added to a training set of digits, and to no other."""
    config = TrainingConfig(epochs=1, batch_size=64)
    alone = weights_digest(train(*digits, config, add_styles=False).model)
    other = weights_digest(train(*digits, dataclasses.replace(config, seed=2), add_styles=False).model)
    assert len({one_epoch, alone, other}) == 3
    monkeypatch.setitem(PRESETS, "fast", dataclasses.replace(PRESETS["fast"], generated_share=0.0))
    assert weights_digest(train(*digits, config).model) == alone


def test_repeated_images_are_those_of_a_larger_data_set(digits):
    """Training on each image twice per epoch gives the weights of a data set that has each image twice."""
    config = TrainingConfig(epochs=1, batch_size=64)
    few = digits[0][0][:300], digits[0][1][:300]
    double = tuple(np.concatenate([each, each]) for each in few)
    first, second = train(few, digits[1], config, repeats=2), train(double, digits[1], config)
    assert weights_digest(first.model) == weights_digest(second.model)


def test_a_data_set_is_trained_on_block_by_block(digits, tmp_path):
    """A training that reads its images in blocks learns, and continues after a checkpoint with the same weights."""
    images, settings = Dataset(*digits[0]), Settings(home=tmp_path)
    stored = blocks.read(tmp_path / "set", blocks.write(tmp_path / "set", (images[i::4] for i in range(4))))
    config, checkpoints = TrainingConfig(epochs=4, batch_size=64), Checkpoints.open(settings, "a")
    undisturbed = train(stored, digits[1], config)
    assert undisturbed.history[-1].val_accuracy > 0.85

    def fail_in_the_second(result):
        if result.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(stored, digits[1], config, fail_in_the_second, checkpoints=checkpoints)
    continued = train(stored, digits[1], config, checkpoints=checkpoints)
    assert weights_digest(continued.model) == weights_digest(undisturbed.model)


def test_a_task_of_small_pictures_in_colour_is_learnt():
    """Three classes of 60 pictures of 9 x 12 pixels in colour, with five validation images, one class missing."""
    task = dataclasses.replace(find("fashion"), labels=("red", "green", "blue"), height=9, width=12, channels=3)
    labels = (np.arange(180) % 3).astype(np.uint8)
    images = np.random.default_rng(0).integers(0, 100, (180, 9, 12, 3), np.uint8)
    images[range(180), :, :, labels] += 60
    few = np.flatnonzero(labels)[:5]
    trained = fit.train(
        (images, labels), (images[few], labels[few]), TrainingConfig(epochs=2, batch_size=60), task=task, repeats=10
    )
    assert trained.history[-1].val_accuracy == 1.0
    assert trained.model.output_shape == (None, 3)


ORDERED = """
import numpy as np
from digits.training.tensorflow import tf
from digits.training.recipe import TrainingConfig
from digits.training.fit import train
from digits.tasks.task import find

tf.config.experimental.enable_op_determinism()
data = np.arange(200 * 784, dtype=np.uint32).astype(np.uint8).reshape(200, 28, 28), np.arange(200).astype(np.uint8) % 10
for choice in ({"preset": "fast"}, {"preset": "accurate"}, {"model": "baseline"}):
    print(len(train(data, data, TrainingConfig(epochs=1, batch_size=64, **choice), task=find('digits')).history))
"""


def test_training_works_with_deterministic_operations():
    """Every preset and the baseline work with deterministic operations, which are enabled if there is a GPU."""
    done = subprocess.run([sys.executable, "-c", ORDERED], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == ["1", "1", "1"], done.stderr


def test_the_baseline_is_the_earlier_network(digits):
    """The baseline has the 695,338 weights of the earlier design, and learns."""
    trained = train(*digits, TrainingConfig(model="baseline", batch_size=60))
    assert trained.model.count_params() == 695_338
    assert len(trained.history) == 3
    assert trained.history[-1].val_accuracy > 0.8


def test_an_optimizer_without_a_class_is_rejected_before_training(digits, monkeypatch):
    """A name of the table that is no optimizer is an error before the first epoch."""
    monkeypatch.setitem(OPTIMIZERS, "mine", Optimizer(0.1))
    reported = []
    with pytest.raises(UsageError, match="no optimizer 'mine'"):
        train(*digits, TrainingConfig(optimizer="mine"), reported.append)
    assert not reported


def test_an_optimizer_with_its_own_class_trains(digits, monkeypatch):
    """docs/extending.md, "An optimizer": an entry of OPTIMIZERS, and the class is used."""
    created = []

    class Mine(keras.optimizers.SGD):
        def __init__(self, **settings):
            super().__init__(**settings)
            created.append(self)

    monkeypatch.setitem(OPTIMIZERS, "mine", Optimizer(0.1, own=lambda _: Mine))
    train(*digits, TrainingConfig(optimizer="mine", epochs=1, batch_size=64))
    assert len(created) == 1


def test_the_last_steps_use_unchanged_images(digits, monkeypatch):
    """Nothing is learnt from images that are shifted out of sight, until the steps with unchanged images."""
    blank = Preset("small", 4, 64, Augmentation(shift=1e6), unaugmented_share=0.5)
    monkeypatch.setitem(PRESETS, "fast", blank)
    accuracies = [epoch.val_accuracy for epoch in train(*digits, TrainingConfig()).history]
    assert max(accuracies[:2]) < 0.3
    assert accuracies[-1] > 0.8


def test_the_accurate_preset_learns_its_normalization(digits):
    """With the moving statistics of its normalization, the network is as accurate as it was in training."""
    last = train(*digits, TrainingConfig(preset="accurate", epochs=5, batch_size=64)).history[-1]
    assert last.val_accuracy > 0.9
    assert abs(last.val_accuracy - last.accuracy) < 0.1


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_every_optimizer_learns(digits, optimizer, monkeypatch):
    """With its default learning rate, each optimizer is far better than chance after a few steps."""
    monkeypatch.setitem(PRESETS, "fast", Preset("small", 2, 64, Augmentation()))
    trained = train(*digits, TrainingConfig(optimizer=optimizer))
    assert trained.history[-1].val_accuracy > 0.35


def test_diverged_training_is_an_error(digits):
    """A learning rate that is far too large ends in an error that states it."""
    with pytest.raises(
        DigitsError, match=r"diverged \(non-finite weights\) in epoch 1: optimizer sgd, learning rate 1e\+30"
    ):
        train(*digits, TrainingConfig(optimizer="sgd", learning_rate=1e30, batch_size=64, epochs=1))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda images, labels: (images / 255.0, labels),
        lambda images, labels: (images[..., None], labels),
        lambda images, labels: (images, labels[:-1]),
        lambda images, labels: (images[:0], labels[:0]),
    ],
    ids=["floats", "four dimensions", "a label short", "none"],
)
def test_invalid_data_is_rejected(digits, spoil):
    """Images and labels of another type, shape or number are rejected before training."""
    with pytest.raises(DataError, match=r"expected (images uint8|labels uint8|at least one)"):
        train(spoil(*digits[0]), digits[1], TrainingConfig())

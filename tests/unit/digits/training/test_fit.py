"""Training, on scikit-learn's digits so that it needs no data and little time."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from digits.errors import DataError, DigitsError, UsageError
from digits.training import fit
from digits.training.export import weights_digest
from digits.training.fit import train
from digits.training.networks import keras
from digits.training.recipe import OPTIMIZERS, PRESETS, Augmentation, Preset, TrainingConfig, learning_rates


@pytest.fixture(scope="module")
def digits():
    """1,500 images to train on and 297 to validate with."""
    images, labels = load_digits(return_X_y=True)
    large = np.kron(images.reshape(-1, 8, 8), np.ones((3, 3))) * (255 / 16)
    images = np.pad(large, ((0, 0), (2, 2), (2, 2))).astype(np.uint8)
    labels = labels.astype(np.uint8)
    return (images[:1500], labels[:1500]), (images[1500:], labels[1500:])


def test_training_learns_and_tells_of_each_epoch(digits):
    """A short training reads most of the digits it never saw, and reports each epoch as it ends."""
    told = []
    trained = train(*digits, TrainingConfig(epochs=6, batch_size=64), told.append)
    assert [result.epoch for result in told] == [1, 2, 3, 4, 5, 6]
    assert told == trained.history
    assert told[-1].val_accuracy > 0.85
    assert told[-1].loss < told[0].loss
    assert all(result.seconds > 0 for result in told)
    images, labels = digits[1]
    probabilities = trained.model(images[..., None] / np.float32(255)).numpy()
    assert (probabilities.argmax(1) == labels).mean() == pytest.approx(told[-1].val_accuracy)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_same_seed_gives_the_same_weights(digits, preset):
    """Training twice with one seed gives the same weights bit for bit, with another seed others."""
    runs = [train(*digits, TrainingConfig(preset=preset, epochs=1, batch_size=64, seed=seed)) for seed in (1, 1, 2)]
    first, second, other = (weights_digest(run.model) for run in runs)
    assert first == second
    assert first != other


def test_images_that_are_no_digits_are_trained_on_alone(digits, monkeypatch):
    """Drawn digits come to a training set of digits, as the preset has it, and to no other."""
    config = TrainingConfig(epochs=1, batch_size=64)
    mixed, alone = (weights_digest(train(*digits, config, styled=styled).model) for styled in (True, False))
    monkeypatch.setitem(PRESETS, "fast", dataclasses.replace(PRESETS["fast"], styles=0.0))
    assert weights_digest(train(*digits, config).model) == alone != mixed


ORDERED = """
import numpy as np
from digits.training.networks import tf
from digits.training.recipe import TrainingConfig
from digits.training.fit import train

tf.config.experimental.enable_op_determinism()
some = np.arange(200 * 784, dtype=np.uint32).astype(np.uint8).reshape(200, 28, 28), np.arange(200).astype(np.uint8) % 10
for choice in ({"preset": "fast"}, {"preset": "accurate"}, {"model": "baseline"}):
    print(len(train(some, some, TrainingConfig(epochs=1, batch_size=64, **choice)).history))
"""


def test_training_needs_nothing_without_a_fixed_order():
    """Every way of training works with the operations of fixed order that are asked for where there is a GPU."""
    done = subprocess.run([sys.executable, "-c", ORDERED], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == ["1", "1", "1"], done.stderr


def test_the_baseline_is_the_earlier_network(digits):
    """The baseline has the earlier design's 695,338 weights and learns by its own way too."""
    trained = train(*digits, TrainingConfig(model="baseline"))
    assert trained.model.count_params() == 695_338
    assert len(trained.history) == 3
    assert trained.history[-1].val_accuracy > 0.8


def test_the_optimizers_are_those_that_keras_knows():
    """Our list, which needs no TensorFlow, is Keras's own without wrappers of others and what trains no network."""
    kinds = {name.lower() for name, kind in vars(keras.optimizers).items() if isinstance(kind, type)}
    left_out = {"optimizer", "lossscaleoptimizer", "multioptimizer", "optimizermap", "ftrl"}
    assert set(OPTIMIZERS) - set(fit.OWN) == kinds - left_out


def test_an_optimizer_of_ones_own_is_taken(digits, monkeypatch):
    """docs/extending.md, "An optimizer": a line of OPTIMIZERS and one of OWN, and the class trains."""

    class Mine(keras.optimizers.SGD):
        made = 0

        def __init__(self, **given):
            super().__init__(**given)
            Mine.made += 1

    monkeypatch.setitem(OPTIMIZERS, "mine", 0.1)
    monkeypatch.setitem(fit.OWN, "mine", Mine)
    train(*digits, TrainingConfig(optimizer="mine", epochs=1, batch_size=64))
    assert Mine.made == 1


@pytest.mark.parametrize("name", ["mine", "get", "schedules"])
def test_an_optimizer_without_a_class_is_refused(digits, monkeypatch, name):
    """A name that is offered but is neither Keras's optimizer nor ours is a wrong request, told before any training."""
    monkeypatch.setitem(OPTIMIZERS, name, 0.1)
    told = []
    with pytest.raises(UsageError, match=f"OWN in digits/training/fit.py, got '{name}'"):
        train(*digits, TrainingConfig(optimizer=name), told.append)
    assert not told


def test_the_last_steps_see_the_images_as_they_are(digits, monkeypatch):
    """Of images moved out of sight nothing is learnt; in the share of the steps that leaves them be, it is."""
    blank = Preset("small", 4, 64, Augmentation(shift=1e6), plain=0.5)
    monkeypatch.setitem(PRESETS, "fast", blank)
    seen = [epoch.val_accuracy for epoch in train(*digits, TrainingConfig()).history]
    assert max(seen[:2]) < 0.3
    assert seen[-1] > 0.8


def test_the_accurate_preset_learns_its_normalization(digits):
    """Measured with the moving statistics of its normalization, the network is as good as it was in training."""
    last = train(*digits, TrainingConfig(preset="accurate", batch_size=64)).history[-1]
    assert last.val_accuracy > 0.9
    assert abs(last.val_accuracy - last.accuracy) < 0.1


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_every_optimizer_learns(digits, optimizer):
    """With its own learning rate each of Keras's optimizers gets clearly beyond guessing within a few steps."""
    trained = train(*digits, TrainingConfig(optimizer=optimizer, epochs=5, batch_size=64))
    assert trained.history[-1].val_accuracy > 0.5


def test_weights_that_run_away_end_the_training(digits):
    """A learning rate far too large ends in an error that names it, not in a model that guesses."""
    with pytest.raises(DigitsError, match=r"ran away in epoch 1: optimizer sgd, learning rate 1e\+30"):
        train(*digits, TrainingConfig(optimizer="sgd", learning_rate=1e30, batch_size=64, epochs=1))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"optimizer": "adman"}, "optimizer: expected one of adadelta, .*sgd, got 'adman'"),
        ({"preset": "slow"}, "preset: expected one of fast, accurate, got 'slow'"),
        ({"model": "big"}, "model: expected one of default, baseline, got 'big'"),
        ({"epochs": -1}, "epochs: expected a number from 0, got -1"),
        ({"batch_size": -5}, "batch_size: expected a number from 0, got -5"),
        ({"learning_rate": float("nan")}, "learning_rate: expected a number from 0, got nan"),
        ({"seed": 2**31}, "seed: expected a number from 0 to 2147483647, got 2147483648"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(choice, message):
    """What is unknown or out of range is refused with what was expected and what came."""
    with pytest.raises(UsageError, match=message):
        TrainingConfig(**choice)


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
def test_data_of_another_kind_is_refused(digits, spoil):
    """Images and labels of another type, shape or number are refused before anything is trained."""
    with pytest.raises(DataError, match=r"training data: expected images uint8 \(n, 28, 28\)"):
        train(spoil(*digits[0]), digits[1], TrainingConfig())


def test_the_learning_rate_makes_one_cycle():
    """It rises for three tenths of the steps to its peak and falls to nothing."""
    rates = learning_rates(TrainingConfig(learning_rate=0.5), 100, 256)
    assert len(rates) == 100
    assert rates.index(max(rates)) in (29, 30)
    assert 0.45 < max(rates) <= 0.5
    assert rates[0] == pytest.approx(0.02)
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    assert rates[:30] == sorted(rates[:30])
    assert rates[30:] == sorted(rates[30:], reverse=True)


def test_smaller_batches_get_smaller_learning_rates():
    """The preset's rate goes with the root of the batch size; a rate that was asked for stays."""
    config = TrainingConfig()
    assert max(learning_rates(config, 100, 64)) == pytest.approx(max(learning_rates(config, 100, 256)) / 2)
    asked = dataclasses.replace(config, learning_rate=0.01)
    assert learning_rates(asked, 100, 64) == learning_rates(asked, 100, 256)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_trainings_have_a_schedule(steps):
    """One to three steps have as many learning rates, above or at 0."""
    rates = learning_rates(TrainingConfig(), steps, 256)
    assert len(rates) == steps
    assert min(rates) >= 0


def test_choosing_needs_no_tensorflow():
    """The presets and choices can be had without importing TensorFlow, which takes seconds."""
    code = (
        "import sys; from digits.training import recipe as r; r.TrainingConfig(); sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0

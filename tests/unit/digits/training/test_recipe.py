"""Presets, the user's choices, and the schedule of the learning rate."""

import dataclasses
import subprocess
import sys

import pytest

from digits.errors import UsageError
from digits.tasks.task import find
from digits.training.recipe import PRESETS, Augmentation, TrainingConfig, learning_rates


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
def test_an_invalid_choice_is_rejected(choice, message):
    """An unknown value, or one out of range, is rejected with the expected and the actual value."""
    with pytest.raises(UsageError, match=message):
        TrainingConfig(**choice)


def test_the_learning_rate_has_one_cycle():
    """The learning rate rises to its peak for three tenths of the steps, then falls to 0."""
    rates = learning_rates(TrainingConfig(learning_rate=0.5), 100, 256)
    assert len(rates) == 100
    assert rates.index(max(rates)) in (29, 30)
    assert 0.45 < max(rates) <= 0.5
    assert rates[0] == pytest.approx(0.02)
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    assert rates[:30] == sorted(rates[:30])
    assert rates[30:] == sorted(rates[30:], reverse=True)


def test_smaller_batches_get_smaller_learning_rates():
    """The default rate is proportional to the root of the batch size; a chosen rate is not changed."""
    config = TrainingConfig()
    assert max(learning_rates(config, 100, 64)) == pytest.approx(max(learning_rates(config, 100, 256)) / 2)
    chosen = dataclasses.replace(config, learning_rate=0.01)
    assert learning_rates(chosen, 100, 64) == learning_rates(chosen, 100, 256)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_very_short_training_has_a_schedule(steps):
    """One to three steps get as many learning rates, none below 0."""
    rates = learning_rates(TrainingConfig(), steps, 256)
    assert len(rates) == steps
    assert min(rates) >= 0


def test_a_recipe_needs_no_tensorflow():
    """Presets and choices are available without importing TensorFlow, which takes seconds."""
    code = (
        "import sys; from digits.training import recipe as r; r.TrainingConfig(); sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_zero_stands_for_the_presets_value():
    """The resolved values are those of the preset unless the user chose others."""
    resolved = TrainingConfig(preset="accurate", batch_size=64).resolved
    assert resolved == {"epochs": PRESETS["accurate"].epochs, "batch_size": 64, "learning_rate": 0.005}
    assert TrainingConfig(model="baseline").resolved == {"epochs": 3, "batch_size": 20, "learning_rate": 0.0}


def test_the_augmentation_is_the_tasks():
    """A preset changes drawings and photos in different ways, and nothing if the task says none."""
    preset = PRESETS["fast"]
    ranges = {
        name: preset.augmentation_of(dataclasses.replace(find("fashion"), augmentation=name))
        for name in ("pen", "photo", "none")
    }
    assert ranges == {"pen": preset.augmentation, "photo": preset.photo, "none": Augmentation()}
    assert preset.augmentation_of(find("digits")) == preset.augmentation


@pytest.mark.parametrize(
    "choice", [{"shards": 3}, {"shards": 8, "batch_size": 100}, {"shards": 8, "model": "baseline"}, {"shards": 128}]
)
def test_shards_that_do_not_divide_a_batch_are_refused(choice):
    """A batch has equal shards, whose sums are added in pairs."""
    with pytest.raises(UsageError, match="shards"):
        TrainingConfig(**choice)


@pytest.mark.parametrize(("shards", "workers"), [(8, 3), (2, 4), (0, 2), (4, 40), (32, 64)])
def test_workers_that_cannot_share_the_shards_are_refused(shards, workers):
    """Each worker has equally many shards. The error states options that are accepted."""
    with pytest.raises(UsageError, match="workers") as caught:
        TrainingConfig(shards=shards).check_workers(workers)
    options = caught.value.remedy.split()
    TrainingConfig(shards=int(options[3])).check_workers(int(options[1]))

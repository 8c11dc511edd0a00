"""Checkpoints: what an interrupted training continues from."""

import functools
import os
import time

import numpy as np
import pytest

from digits.errors import StoreUnreachable
from digits.settings import Settings
from digits.store import open_store
from digits.tasks.task import find
from digits.training import fit
from digits.training.checkpoints import MAX_AGE, Checkpoint, Checkpoints
from digits.training.export import weights_digest
from digits.training.recipe import TrainingConfig

CHECKPOINT = Checkpoint(2, [{"epoch": 1}, {"epoch": 2}], {"state": {"state": 2**100}}, [np.arange(3.0), np.array(7)])
train = functools.partial(fit.train, task=find("digits"))


@pytest.fixture(scope="module")
def images():
    """Return 200 training images and 100 validation images, of 28 x 28 pixels."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    pixels = np.pad(pixels[:300].reshape(-1, 8, 8), ((0, 0), (10, 10), (10, 10))) * 15
    pixels, labels = pixels.astype(np.uint8), labels[:300].astype(np.uint8)
    return (pixels[:200], labels[:200]), (pixels[200:], labels[200:])


@pytest.fixture
def checkpoints(settings):
    """Return the checkpoints of a training in a store that is a folder."""
    return Checkpoints.open(settings, "0" * 64)


class Killed(Exception):
    """Stands for the end of a process during an epoch."""


@pytest.mark.parametrize("config", [{"preset": "accurate", "shards": 4}, {"optimizer": "schedulefreeadamw"}], ids=str)
def test_a_continued_training_gives_the_weights_of_an_undisturbed_one(images, checkpoints, config):
    """An interruption in any epoch changes neither the weights nor the history, but the epochs before are kept."""
    config = TrainingConfig(epochs=3, batch_size=64, **config)
    expected = train(*images, config)

    def fail_in_the_third(result):
        if result.epoch == 3:
            raise Killed

    with pytest.raises(Killed):
        train(*images, config, fail_in_the_third, checkpoints=checkpoints)
    trained_again = []
    continued = train(*images, config, trained_again.append, checkpoints=checkpoints)
    assert [result.epoch for result in trained_again] == [3]
    assert weights_digest(continued.model) == weights_digest(expected.model)
    assert [result.val_loss for result in continued.history] == [result.val_loss for result in expected.history]


def test_after_the_last_epoch_nothing_is_trained_again(images, checkpoints):
    """A training that was interrupted after its last epoch only has to be exported."""
    config = TrainingConfig(epochs=1, batch_size=64)
    first = train(*images, config, checkpoints=checkpoints)
    trained_again = []
    second = train(*images, config, trained_again.append, checkpoints=checkpoints)
    assert trained_again == []
    assert weights_digest(first.model) == weights_digest(second.model)


def test_a_checkpoint_is_read_as_it_was_written_and_the_earlier_one_removed(settings, checkpoints):
    """The last checkpoint is returned with all its numbers, and only its two objects are left."""
    checkpoints.save(Checkpoint(1, [], {}, []))
    checkpoints.save(CHECKPOINT)
    found = checkpoints.load()
    assert (found.epoch, found.history, found.random) == (CHECKPOINT.epoch, CHECKPOINT.history, CHECKPOINT.random)
    assert all((a == b).all() for a, b in zip(found.variables, CHECKPOINT.variables, strict=True))
    assert len(open_store(settings).keys("trainings/")) == 2
    checkpoints.remove()
    assert checkpoints.load() is None
    assert open_store(settings).keys("trainings/") == []


@pytest.mark.parametrize("suffix", ["npz", "json"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"[]", b"damaged"], ids=str)
def test_a_damaged_checkpoint_is_not_used(settings, checkpoints, suffix, content):
    """If a part of the checkpoint is missing or damaged, the training begins at its start."""
    checkpoints.save(CHECKPOINT)
    store = open_store(settings)
    key = next(key for key in store.keys("trainings/") if key.endswith(suffix))
    if content is None:
        store.delete(key)
    else:
        store.put(key, content)
    assert checkpoints.load() is None


def test_the_checkpoints_of_other_inputs_are_not_used(settings, checkpoints):
    """Each training has its own checkpoints."""
    checkpoints.save(CHECKPOINT)
    assert Checkpoints.open(settings, "1" * 64).load() is None


def test_what_another_training_left_is_removed_after_a_month(settings, checkpoints):
    """A training that ends removes the old objects of others of its task, and no newer ones and no other task's."""
    store = open_store(settings)
    old, new, other = "trainings/digits/1/1-2/job/train_set", "trainings/digits/2/checkpoint-1.npz", "trainings/a/1/x"
    for key in (old, new, other):
        store.put(key, b"")
    for key in (old, other):
        os.utime(store.root / key, (time.time() - MAX_AGE,) * 2)
    checkpoints.remove()
    assert store.keys("trainings/") == [other, new]


def test_a_worker_that_is_not_the_first_writes_none(settings):
    """Only one of several workers writes the checkpoint that they have in common."""
    Checkpoints.open(settings, "0" * 64, writes=False).save(CHECKPOINT)
    assert open_store(settings).keys("trainings/") == []


def test_where_signatures_count_there_are_no_checkpoints(settings, tmp_path):
    """A checkpoint is not signed, so a store that is not trusted could change what is trained."""
    signed = Settings(home=settings.home, trusted_keys=str(tmp_path))
    Checkpoints.open(signed, "0" * 64).save(CHECKPOINT)
    assert Checkpoints.open(settings, "0" * 64).load() is None


def test_a_store_that_fails_costs_only_the_checkpoint(settings, checkpoints, monkeypatch):
    """Without the store a training loses its checkpoints, and nothing else."""

    def fail(*_, **__):
        raise StoreUnreachable("the store does not answer")

    for name in ("put", "keys"):
        monkeypatch.setattr(type(open_store(settings)), name, fail)
    checkpoints.save(CHECKPOINT)
    assert checkpoints.load() is None
    checkpoints.remove()

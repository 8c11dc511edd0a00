"""The table of optimizers and their creation."""

import pytest

from digits.errors import UsageError
from digits.training.optimizers import OPTIMIZERS, Optimizer, create
from digits.training.tensorflow import keras


def test_the_table_has_keras_optimizers():
    """The table lists Keras's optimizers, without wrappers of others and without Ftrl."""
    names = {name.lower() for name, kind in vars(keras.optimizers).items() if isinstance(kind, type)}
    omitted = {"optimizer", "lossscaleoptimizer", "multioptimizer", "optimizermap", "ftrl"}
    assert {name for name, entry in OPTIMIZERS.items() if not entry.own} == names - omitted


def test_settings_are_applied():
    """An optimizer gets its settings, and the baseline's gets Keras's defaults."""
    assert (create("adam").beta_1, create("adam", tuned=False).beta_1) == (0.7, 0.9)
    assert create("sgd").momentum == 0.9


def test_an_optimizer_may_have_its_own_class(monkeypatch):
    """An entry of the table with a class is all that an optimizer outside Keras needs."""

    class Mine(keras.optimizers.SGD):
        pass

    monkeypatch.setitem(OPTIMIZERS, "mine", Optimizer(0.1, {"momentum": 0.5}, own=lambda keras: Mine))
    optimizer = create("mine")
    assert (type(optimizer), optimizer.momentum) == (Mine, 0.5)


@pytest.mark.parametrize("name", ["mine", "get", "schedules"])
def test_an_entry_without_a_class_is_rejected(monkeypatch, name):
    """A name that is not an optimizer of Keras is an error with the file to change."""
    monkeypatch.setitem(OPTIMIZERS, name, Optimizer(0.1))
    with pytest.raises(UsageError, match=f"Keras has no optimizer '{name}'") as error:
        create(name)
    assert "digits/training/optimizers.py" in error.value.remedy

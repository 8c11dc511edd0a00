"""The shapes and names of the networks."""

import dataclasses

import numpy as np
import pytest

from digits.errors import UsageError
from digits.tasks.task import find
from digits.training.networks import NETWORKS, build, with_probabilities
from digits.training.tensorflow import tf

DIGITS = find("digits")


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_network_returns_ten_logits(name):
    """Each network takes images of 28 x 28 pixels and returns ten logits."""
    network = build(name, DIGITS)
    assert network.input_shape == (None, 28, 28, 1)
    assert network(np.zeros((3, 28, 28, 1), np.float32)).shape == (3, 10)


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("shape", [(8, 8, 1), (96, 96, 3), (8, 96, 3), (33, 17, 1)], ids=str)
@pytest.mark.parametrize("reading", ["pen", "photo"])
def test_a_network_takes_the_images_of_the_task(name, shape, reading):
    """Each network takes images of any size that a task may have, and returns a logit per label."""
    height, width, channels = shape
    task = dataclasses.replace(
        DIGITS, labels=("a", "b", "c"), height=height, width=width, channels=channels, reading=reading
    )
    network = build(name, task)
    assert network(np.zeros((2, *shape), np.float32)).shape == (2, 3)
    assert name == "baseline" or network.count_params() < 400_000


def test_the_released_model_returns_probabilities():
    """The model with a softmax returns rows that sum to 1, in the order of the logits, and shares the weights."""
    network = build("small", DIGITS)
    model = with_probabilities(network)
    images = np.random.default_rng(0).random((5, 28, 28, 1), np.float32)
    probabilities = model(images).numpy()
    assert probabilities == pytest.approx(tf.nn.softmax(network(images)).numpy(), abs=1e-6)
    assert probabilities.sum(1) == pytest.approx(np.ones(5), abs=1e-5)
    network.get_layer("logits").bias.assign(np.arange(10) * 100.0)
    assert (model(images).numpy().argmax(1) == 9).all()


def test_names_do_not_depend_on_earlier_networks():
    """A second network of a kind has the same weight names, so that the saved files are identical."""
    assert [w.path for w in build("large", DIGITS).weights] == [w.path for w in build("large", DIGITS).weights]


def test_an_unknown_network_is_rejected():
    """The error lists the known networks."""
    with pytest.raises(UsageError, match="small, large, baseline, got 'huge'"):
        build("huge", DIGITS)

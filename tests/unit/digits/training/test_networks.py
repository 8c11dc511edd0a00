"""The shapes and names of the networks."""

import numpy as np
import pytest

from digits.errors import UsageError
from digits.training.networks import NETWORKS, build, with_probabilities
from digits.training.tensorflow import tf


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_network_returns_ten_logits(name):
    """Each network takes images of 28 x 28 pixels and returns ten logits."""
    network = build(name)
    assert network.input_shape == (None, 28, 28, 1)
    assert network(np.zeros((3, 28, 28, 1), np.float32)).shape == (3, 10)


def test_the_released_model_returns_probabilities():
    """The model with a softmax returns rows that sum to 1, in the order of the logits, and shares the weights."""
    network = build("small")
    model = with_probabilities(network)
    images = np.random.default_rng(0).random((5, 28, 28, 1), np.float32)
    probabilities = model(images).numpy()
    assert probabilities == pytest.approx(tf.nn.softmax(network(images)).numpy(), abs=1e-6)
    assert probabilities.sum(1) == pytest.approx(np.ones(5), abs=1e-5)
    network.get_layer("logits").bias.assign(np.arange(10) * 100.0)
    assert (model(images).numpy().argmax(1) == 9).all()


def test_names_do_not_depend_on_earlier_networks():
    """A second network of a kind has the same weight names, so that the saved files are identical."""
    assert [w.path for w in build("large").weights] == [w.path for w in build("large").weights]


def test_an_unknown_network_is_rejected():
    """The error lists the known networks."""
    with pytest.raises(UsageError, match="small, large, baseline, got 'huge'"):
        build("huge")

"""The networks' shapes and names."""

import subprocess
import sys

import numpy as np
import pytest

from digits.errors import UsageError
from digits.training.networks import NETWORKS, build, tf, with_probabilities


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_network_gives_ten_logits(name):
    """Each network takes images of 28 x 28 pixels and gives ten logits."""
    network = build(name)
    assert network.input_shape == (None, 28, 28, 1)
    assert network(np.zeros((3, 28, 28, 1), np.float32)).shape == (3, 10)


def test_the_released_model_gives_probabilities():
    """The model with a softmax gives rows that sum to 1, in the logits' order, and shares the network's weights."""
    network = build("small")
    model = with_probabilities(network)
    images = np.random.default_rng(0).random((5, 28, 28, 1), np.float32)
    probabilities = model(images).numpy()
    assert probabilities == pytest.approx(tf.nn.softmax(network(images)).numpy(), abs=1e-6)
    assert probabilities.sum(1) == pytest.approx(np.ones(5), abs=1e-5)
    network.get_layer("logits").bias.assign(np.arange(10) * 100.0)
    assert (model(images).numpy().argmax(1) == 9).all()


def test_names_do_not_depend_on_what_was_built_before():
    """A second network of a kind has the same weight names, so that the files that hold them stay the same."""
    assert [w.path for w in build("large").weights] == [w.path for w in build("large").weights]


def test_an_unknown_network_is_refused():
    """A name that no network has is answered with those there are."""
    with pytest.raises(UsageError, match="small, large, baseline, got 'huge'"):
        build("huge")


def test_importing_the_networks_leaves_plotting_libraries_out():
    """Keras's import doesn't bring the libraries that training has no use for, and they can be imported after it."""
    code = (
        "import sys, digits.training.networks\n"
        "assert not {'matplotlib', 'pandas', 'scipy', 'sklearn'} & set(sys.modules), sys.modules.keys()\n"
        "import sklearn.datasets\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr

"""The three formats of a released model."""

import dataclasses
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from digits.data import fetch
from digits.errors import ReleaseError
from digits.files import sha256_of_folder
from digits.tasks.task import find
from digits.training.export import TOLERANCE, check, export, weights_digest
from digits.training.networks import NETWORKS, build, with_probabilities
from digits.training.tensorflow import keras, tf
from tests.helpers.support import Finished

pytestmark = pytest.mark.slow  # all of them together
DIGITS = find("digits")
IMAGES = np.random.default_rng(1).random((64, 28, 28, 1), np.float32)


@pytest.fixture(scope="module")
def model():
    """Return a model with random weights."""
    keras.utils.set_random_seed(0)
    return with_probabilities(build("small", DIGITS))


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """Return the folder of that model's exports."""
    folder = tmp_path_factory.mktemp("export")
    export(model, folder)
    return folder


@pytest.mark.parametrize("network", NETWORKS)
def test_the_formats_of_every_network_agree(network, tmp_path):
    """The three formats return the same probabilities, also with normalization and dropout."""
    built = build(network, DIGITS)
    for weight in built.non_trainable_weights:  # the moving statistics, which training changes
        weight.assign(weight + 0.5)
    export(with_probabilities(built), tmp_path)
    check(tmp_path, IMAGES)


def test_a_model_of_another_task_is_exported(tmp_path):
    """The formats have the shape of the model's images, and one probability per label."""
    task = dataclasses.replace(find("fashion"), labels=("a", "b", "c"), height=12, width=9, channels=3)
    export(with_probabilities(build("large", task)), tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert session.get_inputs()[0].shape == ["n", 12, 9, 3]
    assert session.get_outputs()[0].shape == ["n", 3]


def _digests(folder):
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("model.keras", "model.onnx")}


def test_the_three_formats_agree(folder):
    """Keras, SavedModel and ONNX give the same probabilities within 1e-5."""
    check(folder, IMAGES)


def test_onnx_has_the_documented_signature(folder):
    """The ONNX model is valid, takes any number of images as `image` and returns `probabilities`."""
    onnx.checker.check_model(onnx.load(folder / "model.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    (model_input,), (model_output,) = session.get_inputs(), session.get_outputs()
    assert (model_input.name, model_input.shape, model_input.type) == ("image", ["n", 28, 28, 1], "tensor(float)")
    assert (model_output.name, model_output.shape, model_output.type) == ("probabilities", ["n", 10], "tensor(float)")
    for count in (1, 3):
        assert session.run(None, {"image": IMAGES[:count]})[0].shape == (count, 10)


def test_the_saved_model_has_the_documented_signature(folder):
    """The SavedModel's serving_default takes float32 (n, 28, 28, 1) and its only output is `probabilities`."""
    signature = tf.saved_model.load(str(folder / "saved_model")).signatures["serving_default"]
    model_input = signature.structured_input_signature[1]["image"]
    assert (model_input.shape.as_list(), model_input.dtype) == ([None, 28, 28, 1], tf.float32)
    assert list(signature.structured_outputs) == ["probabilities"]
    assert signature.structured_outputs["probabilities"].shape.as_list() == [None, 10]


def test_keras_loads_its_format_in_safe_mode(model, folder):
    """The Keras file loads with code execution forbidden, with the same weights."""
    loaded = keras.saving.load_model(folder / "model.keras", safe_mode=True)
    assert weights_digest(loaded) == weights_digest(model)


def test_the_same_weights_give_the_same_files(model, folder, tmp_path):
    """The Keras and ONNX files are always identical, and the SavedModel is in two processes that do the same."""
    code = (
        "import sys, pathlib\n"
        "from digits.training.export import export\n"
        "from digits.training.networks import build, with_probabilities\n"
        "from digits.training.tensorflow import keras\n"
        "from digits.tasks.task import find\n"
        "keras.utils.set_random_seed(0)\n"
        "export(with_probabilities(build('small', find('digits'))), pathlib.Path(sys.argv[1]))\n"
    )
    for name in ("once", "twice"):
        subprocess.run([sys.executable, "-c", code, tmp_path / name], timeout=240, check=True)
    assert sha256_of_folder(tmp_path / "once") == sha256_of_folder(tmp_path / "twice")
    build("large", DIGITS)
    export(model, tmp_path / "again")
    assert _digests(tmp_path / "again") == _digests(tmp_path / "once") == _digests(folder)


def test_the_digest_follows_the_weights(model):
    """A changed weight changes the digest; the old weight gives the old digest."""
    bias = model.get_layer("logits").bias
    before, value = weights_digest(model), bias.numpy()
    bias.assign(value + 1)
    changed = weights_digest(model)
    bias.assign(value)
    assert changed != before
    assert weights_digest(model) == before


def test_formats_that_differ_are_rejected(folder, tmp_path):
    """An ONNX file with other weights is rejected, with the largest difference."""
    other = with_probabilities(build("small", DIGITS))
    export(other, tmp_path)
    (tmp_path / "model.onnx").write_bytes((folder / "model.onnx").read_bytes())
    with pytest.raises(ReleaseError, match=r"model.onnx and model.keras differ by .*, expected at most 1e-05"):
        check(tmp_path, IMAGES)


def test_the_three_formats_agree_on_mnist(finished: Finished, mnist_folder: Path) -> None:
    """Keras, SavedModel and ONNX of a trained model agree within 1e-5 on MNIST's first 1,000 test images."""
    test = fetch.fetch(find("digits"), "mnist", str(mnist_folder), mnist_folder).test
    images = test.images[:1000, ..., None].astype(np.float32) / np.float32(255)
    assert TOLERANCE == 1e-5
    check(finished.folder / "model", images)

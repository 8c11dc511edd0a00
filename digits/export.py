"""Writes a trained model in the three forms that are served, and checks that they agree."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from digits.errors import ReleaseError
from digits.model import keras, tf

TOLERANCE = 1e-5


def weights_digest(model: keras.Model) -> str:
    """Hex SHA-256 over the names, shapes and float32 bytes of the weights."""
    digest = hashlib.sha256()
    for weight in model.weights:
        value = np.ascontiguousarray(weight.numpy(), dtype="<f4")
        digest.update(f"{weight.path} {value.shape}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def export(model: keras.Model, folder: Path) -> None:
    """Write `model.keras`, `saved_model/` (TensorFlow Serving's layout) and `model.onnx` into `folder`.

    Raises:
        ReleaseError: the three don't give the same probabilities.
    """
    import tf2onnx

    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "model.keras")
    signature = [tf.TensorSpec((None, 28, 28, 1), tf.float32, name="image")]

    def answer(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": model(image, training=False)}

    serve = tf.function(answer, input_signature=signature)
    tf.saved_model.save(model, str(folder / "saved_model"), signatures={"serving_default": serve})
    proto, _ = tf2onnx.convert.from_function(serve, input_signature=signature, opset=17)
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    rng = np.random.default_rng(0)
    check(folder, rng.random((8, 28, 28, 1), dtype=np.float32))


def check(folder: Path, images: npt.NDArray[np.float32]) -> None:
    """Check that the three forms in `folder` agree within 1e-5 on `images`, `float32 (n, 28, 28, 1)` in 0..1.

    Raises:
        ReleaseError: they don't; says which and by how much.
    """
    import onnxruntime

    expected = np.asarray(keras.saving.load_model(folder / "model.keras")(images))
    loaded = tf.saved_model.load(str(folder / "saved_model"))
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    answers: dict[str, Any] = {
        "saved_model": loaded.signatures["serving_default"](image=tf.constant(images))["probabilities"].numpy(),
        "model.onnx": session.run(["probabilities"], {"image": images})[0],
    }
    for name, answer in answers.items():
        apart = float(np.abs(answer - expected).max())
        if not apart <= TOLERANCE:
            raise ReleaseError(f"{name} and model.keras differ by {apart:.2e}, expected at most {TOLERANCE:.0e}")

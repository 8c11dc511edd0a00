"""Export of a trained model in the three formats that are served, and a check that they agree.

The same weights give the same bytes of `model.keras` and `model.onnx`. Some names in the SavedModel depend on what the
process did before. Importing this module imports TensorFlow.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from digits.errors import ReleaseError
from digits.files import write_whole
from digits.training.tensorflow import keras, quiet, tf

TOLERANCE = 1e-5
_OPSET = 17  # of ONNX; every runtime that KServe ships supports it
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can hold


def export(model: keras.Model, folder: Path) -> None:
    """Write `model.keras`, `saved_model/` (TensorFlow's SavedModel) and `model.onnx` into `folder`.

    Each takes `image`, `float32 (n, height, width, channels)` in 0..1, and returns `probabilities`, `float32
    (n, classes)`.

    Raises:
        ReleaseError: the three formats return different probabilities.
    """
    shape = model.input_shape[1:]
    signature = [tf.TensorSpec((None, *shape), tf.float32, name="image")]
    serve = tf.function(lambda image: {"probabilities": model(image, training=False)}, input_signature=signature)
    write_whole(folder / "model.keras", _keras_bytes(model))
    with quiet():
        tf.saved_model.save(model, str(folder / "saved_model"), signatures={"serving_default": serve})
        _remove_random_number(folder / "saved_model" / "fingerprint.pb")
        write_whole(folder / "model.onnx", _onnx_bytes(serve, signature))
    check(folder, np.random.default_rng(0).random((8, *shape), dtype=np.float32))


def check(folder: Path, images: npt.NDArray[np.float32]) -> None:
    """Check that the three formats in `folder` agree within TOLERANCE on `images`, float32 in 0..1.

    Raises:
        ReleaseError: two formats differ; states which ones and by how much.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    serve = tf.saved_model.load(str(folder / "saved_model")).signatures["serving_default"]
    expected = np.asarray(keras.saving.load_model(folder / "model.keras")(images, training=False))
    answers: dict[str, npt.NDArray[np.float32]] = {
        "saved_model": serve(image=tf.constant(images))["probabilities"].numpy(),
        "model.onnx": session.run(["probabilities"], {"image": images})[0],
    }
    for name, answer in answers.items():
        if answer.shape != expected.shape:
            raise ReleaseError(f"{name}: expected {expected.shape} probabilities, got {answer.shape}")
        difference = float(np.abs(answer - expected).max())
        if not difference <= TOLERANCE:  # NaN differs too
            raise ReleaseError(f"{name} and model.keras differ by {difference:.1e}, expected at most {TOLERANCE:.0e}")


def weights_digest(model: keras.Model) -> str:
    """Return the hex SHA-256 over the names, shapes and float32 bytes of the weights."""
    digest = hashlib.sha256()
    for layer in model.layers:
        for weight in layer.weights:
            value = np.ascontiguousarray(weight.numpy(), dtype="<f4")
            digest.update(f"{layer.name}/{weight.name} {value.shape}\n".encode())
            digest.update(value.tobytes())
    return digest.hexdigest()


def _keras_bytes(model: keras.Model) -> bytes:
    """Return the content of Keras's file without times and memory addresses."""
    buffer = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder, "model.keras")
        model.save(saved)
        with zipfile.ZipFile(saved) as archive:
            contents = {name: archive.read(name) for name in archive.namelist()}
    metadata = json.loads(contents["metadata.json"])
    contents["metadata.json"] = json.dumps({k: v for k, v in metadata.items() if k != "date_saved"}).encode()
    contents["config.json"] = _number_ids(contents["config.json"])
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name, _EARLIEST), content)
    return buffer.getvalue()


def _remove_random_number(fingerprint: Path) -> None:
    """Remove the random number that TensorFlow adds to the digests of a SavedModel; nothing reads it."""
    from tensorflow.core.protobuf import fingerprint_pb2

    proto = fingerprint_pb2.FingerprintDef.FromString(fingerprint.read_bytes())
    proto.ClearField("uuid")
    write_whole(fingerprint, proto.SerializeToString(deterministic=True))


def _number_ids(config: bytes) -> bytes:
    """Number the shared objects of layers consecutively; Keras identifies them by their memory addresses."""
    ids: dict[bytes, bytes] = {}
    return re.sub(
        rb'(?<="shared_object_id": )\d+', lambda match: ids.setdefault(match[0], b"%d" % (len(ids) + 1)), config
    )


def _onnx_bytes(serve: Any, signature: list[tf.TensorSpec]) -> bytes:
    """Return the function as ONNX with numbered names; tf2onnx's own depend on what the process did before."""
    import tf2onnx

    proto, _ = tf2onnx.convert.from_function(serve, input_signature=signature, opset=_OPSET)
    graph = proto.graph
    names: dict[str, str] = {value.name: value.name for value in (*graph.input, *graph.output)}
    names[""] = ""  # an omitted optional input

    def rename(name: str) -> str:
        return names.setdefault(name, f"t{len(names)}")

    for i, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{i}"
        node.input[:] = map(rename, list(node.input))
        node.output[:] = map(rename, list(node.output))
    weights = sorted(graph.initializer, key=lambda weight: int(rename(weight.name)[1:]))
    del graph.initializer[:]
    for weight in weights:
        weight.name = rename(weight.name)
        graph.initializer.append(weight)
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    del graph.value_info[:]
    graph.name, graph.doc_string = "digits", ""
    return bytes(proto.SerializeToString(deterministic=True))

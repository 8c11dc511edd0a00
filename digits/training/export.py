"""Writes a trained model in the three forms that are served, and checks that they agree.

The same weights give the same bytes of `model.keras` and `model.onnx`; of the SavedModel too, but for names that
depend on what else the process did. Importing this module imports TensorFlow.
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
from digits.training.networks import CLASSES, IMAGE_SHAPE, keras, quiet, tf

TOLERANCE = 1e-5
_OPSET = 17  # of ONNX: old enough for every runtime that KServe ships
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # a zip file's earliest time


def export(model: keras.Model, folder: Path) -> None:
    """Write `model.keras`, `saved_model/` (TensorFlow's SavedModel) and `model.onnx` into `folder`.

    Each takes `float32 (n, 28, 28, 1)` in 0..1 as `image` and gives `float32 (n, 10)` as `probabilities`.

    Raises:
        ReleaseError: the three don't give the same probabilities.
    """
    signature = [tf.TensorSpec((None, *IMAGE_SHAPE), tf.float32, name="image")]
    serve = tf.function(lambda image: {"probabilities": model(image, training=False)}, input_signature=signature)
    write_whole(folder / "model.keras", _keras_bytes(model))
    with quiet():
        tf.saved_model.save(model, str(folder / "saved_model"), signatures={"serving_default": serve})
        _remove_random_number(folder / "saved_model" / "fingerprint.pb")
        write_whole(folder / "model.onnx", _onnx_bytes(serve, signature))
    check(folder, np.random.default_rng(0).random((8, *IMAGE_SHAPE), dtype=np.float32))


def check(folder: Path, images: npt.NDArray[np.float32]) -> None:
    """Check that the three forms in `folder` agree within 1e-5 on `images`, `float32 (n, 28, 28, 1)` in 0..1.

    Raises:
        ReleaseError: they don't; says which and by how much.
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
        if answer.shape != (len(images), CLASSES):
            raise ReleaseError(f"{name}: expected {(len(images), CLASSES)} probabilities, got {answer.shape}")
        apart = float(np.abs(answer - expected).max())
        if not apart <= TOLERANCE:
            raise ReleaseError(f"{name} and model.keras differ by {apart:.1e}, expected at most {TOLERANCE:.0e}")


def weights_digest(model: keras.Model) -> str:
    """Hex SHA-256 over the names, shapes and float32 bytes of the weights."""
    digest = hashlib.sha256()
    for layer in model.layers:
        for weight in layer.weights:
            value = np.ascontiguousarray(weight.numpy(), dtype="<f4")
            digest.update(f"{layer.name}/{weight.name} {value.shape}\n".encode())
            digest.update(value.tobytes())
    return digest.hexdigest()


def _keras_bytes(model: keras.Model) -> bytes:
    """The model as Keras saves it, without times of day and addresses in memory."""
    timeless = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder, "model.keras")
        model.save(saved)
        with zipfile.ZipFile(saved) as old:
            contents = {name: old.read(name) for name in old.namelist()}
    about = json.loads(contents["metadata.json"])
    contents["metadata.json"] = json.dumps({k: v for k, v in about.items() if k != "date_saved"}).encode()
    contents["config.json"] = _count_ids(contents["config.json"])
    with zipfile.ZipFile(timeless, "w") as new:
        for name, content in contents.items():
            new.writestr(zipfile.ZipInfo(name, _LONG_AGO), content)
    return timeless.getvalue()


def _remove_random_number(fingerprint: Path) -> None:
    """TensorFlow puts a random number beside the digests of a SavedModel; nothing reads it."""
    from tensorflow.core.protobuf import fingerprint_pb2

    proto = fingerprint_pb2.FingerprintDef.FromString(fingerprint.read_bytes())
    proto.ClearField("uuid")
    write_whole(fingerprint, proto.SerializeToString(deterministic=True))


def _count_ids(config: bytes) -> bytes:
    """Keras marks objects that layers share by their address in memory; count them instead."""
    ids: dict[bytes, bytes] = {}
    return re.sub(
        rb'(?<="shared_object_id": )\d+', lambda found: ids.setdefault(found[0], b"%d" % (len(ids) + 1)), config
    )


def _onnx_bytes(serve: Any, signature: list[tf.TensorSpec]) -> bytes:
    """The function as ONNX, with names counted within the graph: tf2onnx's depend on what else the process did."""
    import tf2onnx

    proto, _ = tf2onnx.convert.from_function(serve, input_signature=signature, opset=_OPSET)
    graph = proto.graph
    kept = {value.name: value.name for value in (*graph.input, *graph.output)}
    names: dict[str, str] = {"": "", **kept}  # an empty name is an optional input left out

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

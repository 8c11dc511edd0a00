"""Loading and replacing the predictor's model: signature, golden check and promotions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from digits.errors import ReleaseError
from digits.files import sha256_of
from digits.release import ledger, releases
from digits.serving.slot import load
from digits.store.file import FileStore
from digits.tasks.task import find
from tests.helpers.predict import Load
from tests.helpers.support import Finished, StartPredictor, another_release, get_json

IMAGE = (np.arange(784) % 256).reshape(28, 28)
WEIGHTS = np.random.default_rng(0).random((784, 10), np.float32) / 100
SCORES = np.exp((IMAGE.reshape(784) / 255) @ WEIGHTS)
GOLDEN = {
    "image": IMAGE.tolist(),
    "class": int(SCORES.argmax()),
    "probabilities": (SCORES / SCORES.sum()).tolist(),
}


def onnx_model(shape: list[Any], weights: np.ndarray) -> bytes:
    """Return a model of one layer for images of `shape`, with the datatype of the weights."""
    kind = helper.np_dtype_to_tensor_dtype(weights.dtype)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["row"]),
            helper.make_node("MatMul", ["row", "weights"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"]),
        ],
        "digits",
        [helper.make_tensor_value_info("image", kind, shape)],
        [helper.make_tensor_value_info("probabilities", kind, ["n", weights.shape[1]])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


INTACT = onnx_model(["n", 28, 28, 1], WEIGHTS)


def release(folder: Path, model: bytes, golden: Any) -> Path:
    """Return a folder with a release of that model and golden image, and correct digests."""
    manifest = {"version": "0" * 12, "files": {"model.onnx": sha256_of(model)}, "golden": golden}
    manifest["task"] = find("digits").text()
    (folder / "model.onnx").write_bytes(model)
    (folder / releases.MANIFEST).write_text(json.dumps(manifest))
    return folder


def test_an_intact_release_is_loaded(tmp_path: Path) -> None:
    """The small model of these tests is accepted, so that each rejection below is due to the change it makes."""
    loaded = load(release(tmp_path, INTACT, GOLDEN))
    assert loaded.version == "0" * 12
    assert loaded.run(np.zeros((3, 28, 28, 1), np.float32)).shape == (3, 10)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (b"no ONNX at all", "ONNX Runtime cannot load release 000000000000: "),
        (INTACT[:-100], "ONNX Runtime cannot load release 000000000000: "),
        (onnx_model(["n", 784], WEIGHTS), r"expected a model of float \(n, 28, 28, 1\), got tensor\(float\) .*784"),
        (onnx_model(["n", 1, 28, 28], WEIGHTS), r"expected a model of float .*, got tensor\(float\) .*1, 28, 28"),
        (onnx_model(["n", 28, 28, 1], WEIGHTS.astype(np.float64)), r"expected a model of float .*, got tensor\(double"),
        (onnx_model(["n", 28, 28, 1], WEIGHTS[:, :5]), r"expected probabilities \(1, 10\) for one image, got \(1, 5\)"),
        (onnx_model(["n", 28, 28, 1], WEIGHTS[:, :1]), r"expected probabilities \(1, 10\) for one image, got \(1, 1\)"),
    ],
    ids=["no ONNX", "cut", "rows", "channels first", "double", "five classes", "one class"],
)
def test_a_model_of_another_signature_is_rejected(model: bytes, message: str, tmp_path: Path) -> None:
    """A file that ONNX Runtime cannot load, and a model of another signature, raise ReleaseError."""
    with pytest.raises(ReleaseError, match=message):
        load(release(tmp_path, model, GOLDEN))


@pytest.mark.parametrize(
    ("golden", "message"),
    [
        (None, "has no usable golden image: TypeError"),
        ({}, "has no usable golden image: KeyError"),
        (GOLDEN | {"image": [[0] * 28] * 27}, "has no usable golden image: ValueError"),
        (GOLDEN | {"probabilities": [0.1] * 9}, "has no usable golden image: ValueError"),
        ({k: v for k, v in GOLDEN.items() if k != "class"}, "has no usable golden image: KeyError"),
        (
            GOLDEN | {"class": (GOLDEN["class"] + 1) % 10},
            r"answers its golden image with \d \(.*\); expected \d \(.*\)",
        ),
        (GOLDEN | {"probabilities": [0.1] * 10}, r"answers its golden image with \d \(.*\); expected \d \(0\.1000\)"),
        (GOLDEN | {"probabilities": [float("nan")] * 10}, r"answers its golden image with \d \(.*\); expected \d"),
    ],
    ids=["null", "empty", "small image", "nine probabilities", "no class", "wrong class", "other probabilities", "NaN"],
)
def test_a_failed_golden_check_is_rejected(golden: Any, message: str, tmp_path: Path) -> None:
    """A missing or malformed golden image, and a different class or probability, raise ReleaseError."""
    with pytest.raises(ReleaseError, match=message):
        load(release(tmp_path, INTACT, golden))


def test_a_promotion_replaces_the_model_without_a_failed_request(
    start_predictor: StartPredictor, finished: Finished, expected: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    """Under load, the next champion replaces the model without a restart, and a damaged one does not."""
    settings = finished.copy(tmp_path / "home")
    store = FileStore(settings.home / "store")
    predictor = start_predictor(settings)
    second = another_release(store, finished.version, seed=2)["version"]
    third = another_release(store, finished.version, seed=3)["version"]
    store.put(releases.release_prefix(store, third) + "model.onnx", b"damaged")
    with Load(predictor, expected[0]) as load:
        ledger.promote(store, second, "next")
        predictor.wait_for(lambda p: p.about()["release"] == second, "the second release")
        ledger.append(store, ledger.newest(store), third, "damaged after the check of a promotion")
        predictor.wait_for(lambda p: p.about()["refused"].get("release") == third, "the rejection of the third")
        assert predictor.about()["release"] == second
        assert "model.onnx" in predictor.about()["refused"]["why"]
        assert get_json(f"{predictor.url}/v2/models/digits/ready")
        ledger.rollback(store)
        predictor.wait_for(lambda p: p.about()["refused"] == {}, "the rollback")
    assert load.failures == []
    assert load.count > 0
    assert load.releases <= {finished.version, second}
    assert predictor.about()["release"] == second

"""A kind cluster for the session, created as by `digits cluster up`, and a new namespace for each test."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.docker import containers, images
from backends.kind import cluster
from backends.kind.namespace import PREDICTOR_IMAGE, WEB_IMAGE, install, store
from backends.kind.node_images import load
from backends.kserve.kube import Kube, kubeconfig_path
from backends.programs import need, program
from digits.errors import MissingError
from digits.files import sha256_of
from digits.release import releases
from digits.release.write import write_release
from digits.settings import Settings
from digits.store import ObjectStore, open_store
from digits.tasks.task import find
from tests.helpers.support import missing

NAME = os.environ.get("DIGITS_E2E_CLUSTER", "digits-e2e")
MNIST = Path(os.environ.get("DIGITS_DATA") or Path(__file__).parents[3] / "shared/mnist")
# Read when the tests are collected: fixtures may hide the environment from the tests themselves.
KEEP = os.environ.get("DIGITS_KEEP_CLUSTER") == "1"


@dataclass(frozen=True)
class Release:
    """A small release in a local folder."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def version(self) -> str:
        return str(self.manifest["version"])


@dataclass(frozen=True)
class Namespace:
    """A new namespace with everything that a release needs, and a connection to its object store."""

    settings: Settings  # as a user of the cluster has them
    store: ObjectStore
    kube: Kube
    predictor_image: str

    @property
    def name(self) -> str:
        return self.settings.namespace

    def publish(self, release: Release) -> tuple[dict[str, Any], str]:
        """Put a release into the namespace's store, and return its manifest and address."""
        manifest = write_release(self.store, release.folder, release.manifest)
        return manifest, releases.release_uri(self.store, manifest["version"])

    def kubectl(self, *args: str, seconds: float = 120) -> str:
        config = kubeconfig_path(self.settings)
        return program("kubectl", f"--kubeconfig={config}", f"--namespace={self.name}", *args, seconds=seconds)


@pytest.fixture(scope="session")
def cluster_images() -> dict[str, str]:
    """Return our own images for the cluster, which are built if needed."""
    for tool in ("docker", "kind", "kubectl"):
        try:
            need(tool)
        except MissingError as exc:
            missing("cluster", f"the cluster tests need {tool}: {exc.message}")
    engine, settings = containers.connect(), Settings.load(dotenv=None)
    built = {name: images.ensure_image(engine, settings, name, print) for name in ("predictor", "web")}
    return {PREDICTOR_IMAGE: built["predictor"], WEB_IMAGE: built["web"]}


@pytest.fixture(scope="session")
def cluster_settings(cluster_images: dict[str, str]) -> Iterator[Settings]:
    """Yield the settings of a running cluster, which is removed afterwards unless DIGITS_KEEP_CLUSTER=1."""
    home = Path(tempfile.gettempdir()) / NAME
    settings = dataclasses.replace(Settings.load(dotenv=None), home=home, store="")
    cluster.up(settings, print, name=NAME, images=cluster_images)
    yield settings
    if not KEEP:
        cluster.down(settings, print, name=NAME)
        remaining = program("docker", "ps", "-aq", "--filter", f"label=io.x-k8s.kind.cluster={NAME}")
        assert remaining == ""
        assert not kubeconfig_path(settings).exists()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def steps_image(cluster_settings: Settings) -> str:
    """Load the image of the steps into the cluster's node and return its name."""
    image = images.ensure_image(containers.connect(), Settings.load(dotenv=None), "steps", print)
    load([image], NAME, print)
    return image


@pytest.fixture
def namespace(cluster_settings: Settings, cluster_images: dict[str, str]) -> Iterator[Namespace]:
    """Yield a new namespace that enforces the restricted Pod Security Standard."""
    with new_namespace(cluster_settings, cluster_images) as made:
        yield made


@contextlib.contextmanager
def new_namespace(cluster_settings: Settings, cluster_images: dict[str, str]) -> Iterator[Namespace]:
    """Yield a new namespace that enforces the restricted Pod Security Standard, and remove it afterwards."""
    settings = dataclasses.replace(cluster_settings, namespace=f"digits-{uuid.uuid4().hex[:8]}")
    predictor = cluster_images[PREDICTOR_IMAGE]
    install(settings, {PREDICTOR_IMAGE: predictor})
    try:
        with store(settings) as reached:
            yield Namespace(settings, open_store(reached), Kube.connect(settings), predictor)
    finally:
        config = kubeconfig_path(settings)
        program("kubectl", f"--kubeconfig={config}", "delete", "namespace", settings.namespace, "--wait=false")


@pytest.fixture(scope="session")
def digits_images() -> tuple[np.ndarray, np.ndarray]:
    """Return MNIST's test images, uint8 (10000, 28, 28), and labels, uint8 (10000,)."""
    with gzip.open(MNIST / "t10k-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(MNIST / "t10k-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return images, labels


@pytest.fixture(scope="session")
def small_releases(digits_images: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Release]:
    """Return two releases of a linear classifier, trained within seconds on different images."""
    return [small_release(tmp_path_factory.mktemp("release"), *digits_images, seed) for seed in (1, 2)]


def small_release(folder: Path, digits: np.ndarray, labels: np.ndarray, seed: int) -> Release:
    """Train softmax regression on 2,000 images and write it as a release."""
    import onnx
    import onnxruntime

    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(digits))[:2000]
    pixels, targets = (
        digits[chosen].reshape(-1, 784).astype(np.float32) / 255,
        np.eye(10, dtype=np.float32)[labels[chosen]],
    )
    weights = np.zeros((784, 10), np.float32)
    for _ in range(100):
        scores = np.exp(pixels @ weights - (pixels @ weights).max(1, keepdims=True))
        weights -= 0.5 * pixels.T @ (scores / scores.sum(1, keepdims=True) - targets) / len(pixels)
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["image", "flat"], ["row"]),
            helper.make_node("MatMul", ["row", "weights"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"]),
        ],
        "digits",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["n", 28, 28, 1])],
        [helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(np.array([-1, 784]), "flat"), numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    answer = session.run(None, {"image": digits[:1, :, :, None].astype(np.float32) / np.float32(255)})[0][0]
    digest = sha256_of(weights.tobytes())
    manifest = {
        "name": "digits",
        "version": releases.version_from_digest(digest),
        "digest": digest,
        "signature": {},
        "task": find("digits").text(),
        "weights": digest,
        "data": {"dataset": "mnist", "source": sha256_of(digits.tobytes())},
        "code": sha256_of(b"e2e"),
        "parameters": {"seed": seed},
        "mlflow_run": f"run-{seed}",
        "metrics": {"accuracy": 0.9},
        "golden": {
            "image": digits[0].tolist(),
            "class": int(answer.argmax()),
            "probabilities": [float(p) for p in answer],
        },
    }
    return Release(folder, manifest)

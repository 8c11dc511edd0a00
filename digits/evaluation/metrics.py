"""Metrics of a model on a test set, in plain NumPy, for the gate, MLflow, KFP's page and the report."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from digits.data.dataset import Dataset, Images, Labels
from digits.errors import DataError
from digits.evaluation.calibration import calibration_error, reliability
from digits.evaluation.slices import slices
from digits.tasks.task import Task

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Probabilities = NDArray[np.float32]  # (n, classes)
MAX_MISTAKES = 24
ROC_POINTS = 60


@dataclass(frozen=True)
class Evaluation:
    """The metrics of one model on one test set. Rates and probabilities are in 0..1."""

    count: int  # test images
    metrics: dict[str, float]  # by the names of METRICS
    interval: tuple[float, float]  # 95 % confidence interval of the accuracy
    confusion: list[list[int]]  # [label][predicted class]
    precision: list[float]  # per class
    recall: list[float]  # per class
    roc: list[list[float]]  # micro-averaged: [false positive rate, true positive rate, threshold]
    mistakes: list[dict[str, Any]]  # worst first: index, label, answer, probability, image
    slices: dict[str, list[float]]  # by name: [number of images, accuracy]
    corruptions: dict[str, list[float]]  # by the name of `corruptions.corrupt`: [number of images, accuracy]
    threshold: float | None  # least probability of a sure answer, None if the calibration data show none
    calibration: dict[str, dict[str, Any]]  # `calibration.measure` of each set by its name
    reliability: list[list[float]]  # as `calibration.reliability` returns it
    correct_bits: str  # hex: one bit per test image, set if the model recognises it
    corrupted_bits: dict[str, str]  # the same of each corruption's images

    @property
    def accuracy(self) -> float:
        """Return the share of test images that the model recognises."""
        return self.metrics["accuracy"]

    @property
    def scalars(self) -> dict[str, float]:
        """Return the metrics and the accuracy on each corruption, by name, for MLflow and KFP's page."""
        names = {f"corrupted_{name.lower().replace(' ', '_')}": value for name, (_, value) in self.corruptions.items()}
        return self.metrics | names

    def correct(self) -> NDArray[np.bool_]:
        """Return bool (count,): which test images the model recognises."""
        return _unpacked(self.correct_bits, self.count)

    def corrupted(self) -> dict[str, NDArray[np.bool_]]:
        """Return the same of each corruption's images."""
        return {name: _unpacked(bits, int(self.corruptions[name][0])) for name, bits in self.corrupted_bits.items()}

    @classmethod
    def load(cls, path: Path) -> Evaluation:
        """Read the JSON file that the step `evaluate` wrote."""
        return cls(**json.loads(path.read_text()))


def predict(onnx: Path, images: Images, batch: int = 500) -> Probabilities:
    """Return the probabilities float32 (n, classes) of an ONNX model for the images of a Dataset.

    Raises:
        DataError: the model was trained on images of another shape.
    """
    return _run(_open(onnx), images, batch)


def recognised(onnx: Path, datasets: Mapping[str, Dataset]) -> dict[str, NDArray[np.bool_]]:
    """Return which images of each data set the model recognises, bool (n,). Raises DataError as `predict`."""
    session = _open(onnx)  # once, because it takes as long as several hundred images
    return {name: np.asarray(_run(session, each.images).argmax(1) == each.labels) for name, each in datasets.items()}


def _open(onnx: Path) -> InferenceSession:
    import onnxruntime

    return onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])


def _run(session: InferenceSession, images: Images, batch: int = 500) -> Probabilities:
    (first,), (output,) = session.get_inputs(), session.get_outputs()
    images = images if images.ndim == 4 else images[..., None]
    if list(images.shape[1:]) != first.shape[1:]:
        raise DataError(f"expected images of {first.shape[1:]} for this model, got {list(images.shape[1:])}")
    parts = [
        session.run(None, {first.name: images[start : start + batch].astype(np.float32) / 255})[0]
        for start in range(0, len(images), batch)
    ]
    result: Probabilities = np.concatenate(parts) if parts else np.empty((0, output.shape[1]), np.float32)
    return result


def evaluate(
    probabilities: Probabilities,
    test: Dataset,
    task: Task,
    threshold: float | None = None,
    calibration: dict[str, dict[str, Any]] | None = None,
    corrupted: Mapping[str, NDArray[np.bool_]] | None = None,
) -> Evaluation:
    """Compare `probabilities` float32 (n, classes) with the labels of the n test images.

    `threshold` and `calibration` are as in Evaluation. `corrupted` are, for each corruption, the images recognised.
    """
    corrupted = corrupted or {}
    labels, answers = test.labels.astype(int), probabilities.argmax(1)
    classes = probabilities.shape[1]
    confusion = np.bincount(labels * classes + answers, minlength=classes**2).reshape(classes, classes)
    correct = answers == labels
    wrong = np.flatnonzero(~correct)
    worst = wrong[np.argsort(-probabilities[wrong, answers[wrong]], kind="stable")][:MAX_MISTAKES]
    return Evaluation(
        count=len(labels),
        metrics={metric.name: metric.compute(probabilities, test.labels) for metric in METRICS},
        interval=wilson(int(correct.sum()), len(labels)),
        confusion=confusion.tolist(),
        precision=(np.diag(confusion) / np.maximum(confusion.sum(0), 1)).tolist(),
        recall=(np.diag(confusion) / np.maximum(confusion.sum(1), 1)).tolist(),
        roc=_roc(probabilities, labels),
        mistakes=[
            {
                "index": int(i),
                "label": int(labels[i]),
                "answer": int(answers[i]),
                "probability": float(probabilities[i, answers[i]]),
                "image": test.images[i].tolist(),
            }
            for i in worst
        ],
        slices={name: [int(mask.sum()), float(correct[mask].mean())] for name, mask in slices(test, task).items()},
        corruptions={name: [len(own), float(own.mean())] for name, own in corrupted.items()},
        threshold=threshold,
        calibration=calibration or {},
        reliability=reliability(probabilities, test.labels),
        correct_bits=_packed(correct),
        corrupted_bits={name: _packed(own) for name, own in corrupted.items()},
    )


def _packed(mask: NDArray[np.bool_]) -> str:
    return np.packbits(mask).tobytes().hex()


def _unpacked(bits: str, count: int) -> NDArray[np.bool_]:
    return np.unpackbits(np.frombuffer(bytes.fromhex(bits), np.uint8), count=count).astype(bool)


def accuracy(probabilities: Probabilities, labels: Labels) -> float:
    """Return the share of images whose most likely class is their label."""
    return float((probabilities.argmax(1) == labels).mean())


def cross_entropy(probabilities: Probabilities, labels: Labels) -> float:
    """Return the mean cross-entropy, in nats."""
    logarithms = np.log(np.clip(probabilities[np.arange(len(labels)), labels], 1e-12, 1))
    return 0.0 - float(logarithms.mean())  # not -0.0 for a perfect model


def wilson(correct: int, count: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a proportion. Wilson, Probable inference, JASA 22 (1927)."""
    p, z, square = correct / count, 1.96, 1.96**2
    middle = (p + square / (2 * count)) / (1 + square / count)
    half = z * math.sqrt(p * (1 - p) / count + square / (4 * count * count)) / (1 + square / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def mean_auc(probabilities: Probabilities, labels: Labels) -> float:
    """Return the mean area under the one-against-the-rest ROC curves, by the Mann-Whitney rank sum.

    Mann and Whitney, On a test of whether one of two random variables is stochastically larger than the other,
    Ann. Math. Statist. 18 (1947). Classes without images are left out; 0.5 if no class can be compared.
    """
    areas = []
    for label, scores in enumerate(probabilities.T):
        positive = labels == label
        n, m = int(positive.sum()), int((~positive).sum())
        if n and m:
            _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
            ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
            areas.append((ranks[positive].sum() - n * (n + 1) / 2) / (n * m))
    return float(np.mean(areas)) if areas else 0.5


@dataclass(frozen=True)
class Metric:
    """A metric of a model, and how the report shows it."""

    name: str  # the key in the evaluation, in manifests and on KFP's page; `test_NAME` in MLflow
    label: str
    format: str
    compute: Callable[[Probabilities, Labels], float]  # from (n, classes) and (n,)


# To add a metric, add an entry here: every place that shows metrics reads this tuple.
METRICS = (
    Metric("accuracy", "accuracy", "{:.2%}", accuracy),
    Metric("loss", "loss", "{:.4f}", cross_entropy),
    Metric("auc", "mean AUC", "{:.5f}", mean_auc),
    Metric("ece", "calibration error", "{:.2%}", calibration_error),
)


def _roc(probabilities: Probabilities, labels: NDArray[np.int_]) -> list[list[float]]:
    """Return at most ROC_POINTS points of the micro-averaged ROC curve, from low to high false positive rates."""
    truth = np.eye(probabilities.shape[1], dtype=bool)[labels].ravel()
    scores = probabilities.ravel()
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(truth[order])
    cuts = np.unique(np.geomspace(1, len(order), ROC_POINTS).astype(int)) - 1
    false, true = (cuts + 1 - hits[cuts]) / max((~truth).sum(), 1), hits[cuts] / max(truth.sum(), 1)
    return [[float(f), float(t), float(scores[order[i]])] for f, t, i in zip(false, true, cuts, strict=True)]

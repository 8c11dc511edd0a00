"""How good a model is on a test set, in plain NumPy: everything that the gate, MLflow, KFP and the report show."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digits.data.dataset import Dataset, Images, Labels

Probabilities = NDArray[np.float32]
WORST = 24
ROC_POINTS = 60


@dataclass(frozen=True)
class Evaluation:
    """The figures of one model on one test set; rates and probabilities are in 0..1."""

    count: int
    accuracy: float
    interval: tuple[float, float]  # 95 % confidence
    loss: float  # mean cross-entropy, in nats
    auc: float  # mean area under the ten one-against-the-rest ROC curves
    confusion: list[list[int]]  # [true digit][answer]
    precision: list[float]
    recall: list[float]
    roc: list[list[float]]  # micro-averaged: [false positive rate, true positive rate, threshold]
    mistakes: list[dict[str, Any]]  # worst first: index, label, answer, probability, image (28 x 28)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def predict(onnx: Path, images: Images, batch: int = 500) -> Probabilities:
    """Probabilities float32 (n, 10) that the ONNX model gives to images uint8 (n, 28, 28)."""
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    parts = [
        session.run(None, {name: images[at : at + batch, ..., None].astype(np.float32) / 255})[0]
        for at in range(0, len(images), batch)
    ]
    result: Probabilities = np.concatenate(parts) if parts else np.empty((0, 10), np.float32)
    return result


def evaluate(probabilities: Probabilities, test: Dataset) -> Evaluation:
    """Judge `probabilities` float32 (n, 10) against the labels of the n test images."""
    labels, answers = test.labels.astype(int), probabilities.argmax(1)
    confusion = np.bincount(labels * 10 + answers, minlength=100).reshape(10, 10)
    right = int(np.trace(confusion))
    columns, rows = confusion.sum(0), confusion.sum(1)
    given = probabilities[np.arange(len(labels)), labels]
    wrong = np.flatnonzero(answers != labels)
    worst = wrong[np.argsort(-probabilities[wrong, answers[wrong]], kind="stable")][:WORST]
    return Evaluation(
        count=len(labels),
        accuracy=right / len(labels),
        interval=wilson(right, len(labels)),
        loss=float(-np.log(np.clip(given, 1e-12, 1)).mean()),
        auc=_auc(probabilities, test.labels),
        confusion=confusion.tolist(),
        precision=(np.diag(confusion) / np.maximum(columns, 1)).tolist(),
        recall=(np.diag(confusion) / np.maximum(rows, 1)).tolist(),
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
    )


def wilson(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a proportion. Wilson, Probable inference, JASA 22 (1927)."""
    p, square = right / count, z * z
    middle = (p + square / (2 * count)) / (1 + square / count)
    half = z * math.sqrt(p * (1 - p) / count + square / (4 * count * count)) / (1 + square / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def _auc(probabilities: Probabilities, labels: Labels) -> float:
    """Mean over the digits of P(score of a positive > score of a negative), by the Mann-Whitney rank sum."""
    areas = []
    for digit in range(10):
        positive = labels == digit
        n, m = int(positive.sum()), int((~positive).sum())
        if n and m:
            _, inverse, counts = np.unique(probabilities[:, digit], return_inverse=True, return_counts=True)
            ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
            areas.append((ranks[positive].sum() - n * (n + 1) / 2) / (n * m))
    return float(np.mean(areas)) if areas else 0.5


def _roc(probabilities: Probabilities, labels: NDArray[np.int_]) -> list[list[float]]:
    truth = np.eye(10, dtype=bool)[labels].ravel()
    scores = probabilities.ravel()
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(truth[order])
    at = np.unique(np.geomspace(1, len(order), ROC_POINTS).astype(int)) - 1
    false, true = (at + 1 - hits[at]) / max((~truth).sum(), 1), hits[at] / max(truth.sum(), 1)
    return [[float(f), float(t), float(scores[order[i]])] for f, t, i in zip(false, true, at, strict=True)]

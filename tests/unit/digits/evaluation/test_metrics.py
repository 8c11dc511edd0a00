"""The metrics agree with scikit-learn's."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from digits.data.dataset import Dataset
from digits.evaluation import metrics
from digits.settings import Settings
from digits.tasks.task import find
from tests.helpers.support import ROOT, child_environment

DIGITS = find("digits")


def evaluated(count: int, seed: int = 0, ties: bool = False) -> tuple[Dataset, np.ndarray, metrics.Evaluation]:
    """Return a random data set, probabilities that favour the labels, and their evaluation."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count).astype(np.uint8)
    scores = rng.random((count, 10)) + 0.7 * np.eye(10)[labels] + 1e-3
    if ties:
        scores = np.round(scores, 1) + 0.1
    probabilities = (scores / scores.sum(1, keepdims=True)).astype(np.float32)
    test = Dataset(rng.integers(0, 256, (count, 28, 28), np.uint8), labels)
    return test, probabilities, metrics.evaluate(probabilities, test, DIGITS)


@pytest.mark.parametrize("ties", [False, True])
def test_metrics_agree_with_scikit_learn(ties: bool) -> None:
    """Accuracy, loss, AUC, confusion, precision and recall equal scikit-learn's, also with tied scores."""
    from sklearn import metrics as sklearn_metrics

    test, probabilities, result = evaluated(700, ties=ties)
    answers = probabilities.argmax(1)
    assert result.accuracy == pytest.approx(sklearn_metrics.accuracy_score(test.labels, answers))
    assert result.metrics["loss"] == pytest.approx(sklearn_metrics.log_loss(test.labels, probabilities), rel=1e-5)
    assert result.metrics["auc"] == pytest.approx(
        sklearn_metrics.roc_auc_score(test.labels, probabilities, multi_class="ovr", average="macro"), rel=1e-6
    )
    assert result.confusion == sklearn_metrics.confusion_matrix(test.labels, answers, labels=range(10)).tolist()
    expected = sklearn_metrics.precision_recall_fscore_support(test.labels, answers, labels=range(10), zero_division=0)
    assert result.precision == pytest.approx(expected[0])
    assert result.recall == pytest.approx(expected[1])


def test_a_perfect_model_has_the_loss_zero() -> None:
    """If the model is certain and right each time, the loss is 0, not -0, which the report would show as -0.0000."""
    test, _, _ = evaluated(30)
    result = metrics.evaluate(np.eye(10, dtype=np.float32)[test.labels], test, DIGITS)
    assert str(result.metrics["loss"]) == "0.0"
    assert (result.accuracy, result.mistakes, result.interval[1]) == (1.0, [], 1.0)


def test_the_interval_is_wilsons() -> None:
    """The interval equals SciPy's, and stays within 0 and 1 for extreme proportions."""
    from scipy.stats import binomtest

    for correct, count in ((0, 10), (9, 10), (10, 10), (9920, 10000)):
        expected = binomtest(correct, count).proportion_ci(method="wilson")
        assert metrics.wilson(correct, count) == pytest.approx((expected.low, expected.high), abs=2e-5)


def test_digits_that_never_occur_raise_no_error() -> None:
    """A test set of a single digit can be evaluated; metrics of absent digits are 0."""
    labels = np.full(6, 3, np.uint8)
    probabilities = np.tile(np.eye(10, dtype=np.float32)[3], (6, 1))
    result = metrics.evaluate(probabilities, Dataset(np.zeros((6, 28, 28), np.uint8), labels), DIGITS)
    assert (result.accuracy, result.recall[3], result.recall[4], result.metrics["auc"]) == (1.0, 1.0, 0.0, 0.5)
    assert result.mistakes == []


@pytest.mark.parametrize("classes", [2, 40])
def test_a_task_has_any_number_of_classes(classes: int) -> None:
    """The figures of each class are scikit-learn's, and its slice has the label's name; a picture may be in colour."""
    from sklearn import metrics as sklearn_metrics

    labels = tuple(f"class {n}" for n in range(classes))
    task = dataclasses.replace(find("fashion"), labels=labels, height=9, width=8, channels=3)
    rng = np.random.default_rng(0)
    test = Dataset(rng.integers(0, 256, (400, 9, 8, 3), np.uint8), rng.integers(0, classes, 400).astype(np.uint8))
    scores = rng.random((400, classes)) + 0.5 * np.eye(classes)[test.labels]
    probabilities = (scores / scores.sum(1, keepdims=True)).astype(np.float32)
    result = metrics.evaluate(probabilities, test, task)
    answers = probabilities.argmax(1)
    assert result.confusion == sklearn_metrics.confusion_matrix(test.labels, answers, labels=range(classes)).tolist()
    auc = [sklearn_metrics.roc_auc_score(test.labels == n, probabilities[:, n]) for n in range(classes)]
    assert result.metrics["auc"] == pytest.approx(np.mean(auc), rel=1e-6)
    assert result.slices['"class 1"'] == [int((test.labels == 1).sum()), pytest.approx(result.recall[1])]
    assert np.shape(result.mistakes[0]["image"]) == (9, 8, 3)


def test_the_worst_mistakes_come_first() -> None:
    """Mistakes are real ones, the most confident come first, and there are at most MAX_MISTAKES."""
    test, probabilities, result = evaluated(700)
    confidences = [mistake["probability"] for mistake in result.mistakes]
    assert confidences == sorted(confidences, reverse=True)
    assert len(confidences) == metrics.MAX_MISTAKES
    wrong = probabilities.argmax(1) != test.labels
    assert confidences[0] == pytest.approx(float(probabilities.max(1)[wrong].max()))
    for mistake in result.mistakes:
        assert mistake["answer"] != mistake["label"] == test.labels[mistake["index"]]
        assert mistake["image"] == test.images[mistake["index"]].tolist()


def test_each_point_of_the_roc_curve_has_its_thresholds_rates() -> None:
    """Each point has the false and true positive rates of its threshold; the last one is (1, 1)."""
    test, probabilities, result = evaluated(300)
    truth, scores = np.eye(10, dtype=bool)[test.labels].ravel(), probabilities.ravel()
    for false, true, threshold in result.roc:
        positive = scores >= threshold
        assert false == pytest.approx((positive & ~truth).sum() / (~truth).sum())
        assert true == pytest.approx((positive & truth).sum() / truth.sum())
    assert result.roc[-1][:2] == [1.0, 1.0]
    assert result.roc == sorted(result.roc, key=lambda point: point[0])


def test_onnx_runtime_sends_no_telemetry(tmp_path: Path) -> None:
    """Official builds of ONNX Runtime write a session file for telemetry when they are imported; digits prevents it."""
    subprocess.run(
        [sys.executable, "-c", "import digits, onnxruntime"],
        env=child_environment(Settings(home=tmp_path), TMPDIR=str(tmp_path)),
        cwd=ROOT,
        check=True,
        timeout=60,
    )
    assert list(tmp_path.iterdir()) == []

"""Digits in the styles that MNIST does not have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from digits.data import fetch
from digits.training.pen_styles import GLYPHS, drawn
from digits.training.recipe import PRESETS


def test_each_glyph_comes_as_often() -> None:
    """Images and labels are as promised, each image is another, and the seed decides."""
    images, labels = drawn(500, seed=3)
    assert (images.dtype, images.shape, labels.dtype) == (np.uint8, (500, 28, 28), np.uint8)
    assert {label: (labels == label).sum() for label in GLYPHS} == dict.fromkeys(GLYPHS, 100)
    assert len(np.unique(images.reshape(500, -1), axis=0)) == 500
    assert np.array_equal(images, drawn(500, seed=3)[0])
    assert not np.array_equal(images, drawn(500, seed=4)[0])
    assert drawn(0, seed=3)[0].shape == (0, 28, 28)


def test_they_lie_as_mnist_lays_digits() -> None:
    """Ink on paper, 20 pixels on the longer side, the centre of mass in the middle."""
    images, _ = drawn(200, seed=0)
    assert images.min() == 0
    assert images.max() == 255
    for image in images:
        y, x = np.nonzero(image > 100)
        assert 17 <= max(np.ptp(y), np.ptp(x)) + 1 <= 21
        ink = image / image.sum()
        centre = np.array([(ink.sum(1 - axis) * (np.arange(28) + 0.5)).sum() for axis in (0, 1)])
        assert np.abs(centre - 14).max() < 1.5
        assert 0.04 < (image > 100).mean() < 0.25


@pytest.mark.slow
def test_a_network_that_saw_them_reads_them(
    mnist_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained on 10,000 images with the preset's share of them, the network reads many more of their kind."""
    import dataclasses

    from digits.training import fit

    train = fetch.fetch("mnist", str(mnist_folder), tmp_path).train
    others, wanted = drawn(500, seed=99)
    right = {}
    for styles in (0.0, PRESETS["fast"].styles):
        monkeypatch.setitem(PRESETS, "tried", dataclasses.replace(PRESETS["fast"], styles=styles))
        trained = fit.train(
            (train.images[:10000], train.labels[:10000]),
            (others, wanted),
            fit.TrainingConfig(preset="tried", epochs=2),
        )
        right[styles] = trained.history[-1].val_accuracy
    assert right[PRESETS["fast"].styles] > right[0.0] + 0.2, right

"""Generated digits in styles that MNIST lacks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from digits.data import fetch
from digits.tasks.task import find
from digits.training.pen_styles import GLYPHS, generate
from digits.training.recipe import PRESETS


def test_glyphs_are_equally_frequent() -> None:
    """Images and labels have the documented form, all images differ, and the seed determines them."""
    images, labels = generate(500, seed=3)
    assert (images.dtype, images.shape, labels.dtype) == (np.uint8, (500, 28, 28), np.uint8)
    assert {label: (labels == label).sum() for label in GLYPHS} == dict.fromkeys(GLYPHS, 100)
    assert len(np.unique(images.reshape(500, -1), axis=0)) == 500
    assert np.array_equal(images, generate(500, seed=3)[0])
    assert not np.array_equal(images, generate(500, seed=4)[0])
    assert generate(0, seed=3)[0].shape == (0, 28, 28)


def test_glyphs_are_placed_like_mnists_digits() -> None:
    """The longer side is 20 pixels, and the centre of mass is in the middle."""
    images, _ = generate(200, seed=0)
    assert images.min() == 0
    assert images.max() == 255
    for image in images:
        y, x = np.nonzero(image > 100)
        assert 17 <= max(np.ptp(y), np.ptp(x)) + 1 <= 21
        ink = image / image.sum()
        centre = np.array([(ink.sum(1 - axis) * (np.arange(28) + 0.5)).sum() for axis in (0, 1)])
        assert np.abs(centre - 14).max() < 1.5
        assert 0.04 < (image > 100).mean() < 0.25


def test_no_long_flag_of_a_1_is_as_flat_as_the_top_of_a_7() -> None:
    """Short flags may be flat, as in print; long ones rise clearly and may begin below the middle."""
    rng = np.random.default_rng(0)
    strokes = [GLYPHS[1](rng)[0] for _ in range(500)]
    wide, high = np.array([stroke[stroke[:, 1].argmin()] - stroke[0] for stroke in strokes]).T * [[1], [-1]]
    rise = np.degrees(np.arctan2(high, wide))
    assert rise[wide > 0.5].min() > 20
    assert 0.1 < ((rise < 30) & (wide < 0.4)).mean() < 0.4
    assert high.max() > 0.6


def test_some_4s_are_narrow_and_have_a_low_bar() -> None:
    """A good part of the 4s is drawn with the bar in the lowest third, whose second stroke does not cross it."""
    rng = np.random.default_rng(0)
    drawn = [GLYPHS[4](rng) for _ in range(500)]
    low = [second[0, 1] > 0.45 and first[-1, 1] > 0.6 for first, second in drawn]
    assert 0.1 < np.mean(low) < 0.5


@pytest.mark.slow
def test_a_network_trained_on_glyphs_reads_them(
    mnist_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained on 5,000 images with the preset's share of glyphs, the network reads many more of them."""
    import dataclasses

    from digits.training import fit, recipe

    train = fetch.fetch(find("digits"), "mnist", str(mnist_folder), tmp_path).train
    glyphs, labels = generate(500, seed=99)
    accuracy = {}
    for share in (0.0, PRESETS["fast"].generated_share):
        monkeypatch.setitem(PRESETS, "test", dataclasses.replace(PRESETS["fast"], generated_share=share))
        trained = fit.train(
            (train.images[:5000], train.labels[:5000]),
            (glyphs, labels),
            recipe.TrainingConfig(preset="test", epochs=2, batch_size=128),
            task=find("digits"),
        )
        accuracy[share] = trained.history[-1].val_accuracy
    assert accuracy[PRESETS["fast"].generated_share] > accuracy[0.0] + 0.1, accuracy

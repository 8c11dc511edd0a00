"""Random changes to training images."""

import numpy as np
import pytest

from digits.training.augmentation import augment
from digits.training.recipe import PRESETS, Augmentation

BAR = np.zeros((1, 28, 28, 1), np.float32)
BAR[:, 6:22, 12:16] = 1.0
BARS = np.repeat(BAR, 200, axis=0)


def _augment(ranges, seed=(0, 0), images=BARS):
    return np.asarray(augment(images, np.array(seed, np.int32), ranges))


def test_empty_ranges_change_nothing():
    """An augmentation whose ranges are all 0 returns the images unchanged."""
    assert np.array_equal(_augment(Augmentation()), BARS)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_augmented_images_are_valid(preset):
    """Shape, type and range stay, each image is changed differently, and none becomes empty."""
    out = _augment(PRESETS[preset].augmentation)
    assert out.shape == BARS.shape
    assert out.dtype == np.float32
    assert out.min() >= 0
    assert out.max() <= 1
    assert len(np.unique(out.reshape(200, -1), axis=0)) == 200
    assert out.sum((1, 2, 3)).min() > 10


def test_the_seed_determines_the_changes():
    """The same seed gives the same changes, another seed gives others."""
    ranges = PRESETS["fast"].augmentation
    assert np.array_equal(_augment(ranges), _augment(ranges))
    assert not np.array_equal(_augment(ranges), _augment(ranges, seed=(0, 2)))


def test_a_shift_moves_the_centre():
    """A shift moves the centre of mass by at most its range, in all directions."""
    out = _augment(Augmentation(shift=2))[..., 0]
    pixels = np.arange(28)
    right = (out.sum(1) * pixels).sum(1) / out.sum((1, 2)) - 13.5
    down = (out.sum(2) * pixels).sum(1) / out.sum((1, 2)) - 13.5
    for moved in (right, down):
        assert np.abs(moved).max() <= 2.01
        assert moved.min() < -1.5
        assert moved.max() > 1.5


def test_a_rotation_turns_the_axis():
    """A rotation turns the bar's axis by at most its range, in both directions, and keeps its centre."""
    out = _augment(Augmentation(rotation=20))[..., 0]
    y, x = np.mgrid[:28, :28] - 13.5
    ink = out.sum((1, 2))
    lean = (out * x * y).sum((1, 2)) / (out * (y * y - x * x)).sum((1, 2))
    angles = np.degrees(np.arctan(2 * lean) / 2)
    assert np.abs(angles).max() <= 21
    assert angles.min() < -15
    assert angles.max() > 15
    assert np.abs((out * x).sum((1, 2)) / ink).max() < 0.1


def test_strokes_become_thicker_and_thinner():
    """About the given share of the images changes: half of them gain ink, half lose it."""
    ink = _augment(Augmentation(stroke=0.6)).sum((1, 2, 3)) / BAR.sum()
    assert 0.1 < (ink > 1.001).mean() < 0.5
    assert 0.1 < (ink < 0.999).mean() < 0.5
    assert 0.2 < (np.abs(ink - 1) < 0.001).mean() < 0.6

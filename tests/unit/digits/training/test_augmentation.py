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


PHOTOS = np.random.default_rng(0).random((200, 12, 20, 3), np.float32)


def test_photos_of_any_size_and_colour_are_changed():
    """Each photo is changed differently; shape, type and range stay."""
    out = _augment(PRESETS["fast"].photo, images=PHOTOS)
    assert out.shape == PHOTOS.shape
    assert out.dtype == np.float32
    assert 0 <= out.min() < out.max() <= 1
    assert len(np.unique(out.reshape(200, -1), axis=0)) == 200


def test_a_moved_photo_has_no_black_margin():
    """Edges are repeated where a moved photo leaves a gap."""
    white = np.ones((50, 12, 20, 3), np.float32)
    assert _augment(Augmentation(rotation=20, shift=8, repeats_edges=True), images=white).min() > 0.999


def test_half_of_the_photos_are_mirrored():
    """A photo is mirrored from left to right or stays."""
    out = _augment(Augmentation(flipped=True), images=PHOTOS)
    mirrored = np.isclose(out, PHOTOS[:, :, ::-1], atol=1e-6).all(axis=(1, 2, 3))
    assert 0.3 < mirrored.mean() < 0.7
    assert np.allclose(out[~mirrored], PHOTOS[~mirrored], atol=1e-6)


def test_light_and_contrast_change_within_their_ranges():
    """The mean changes by at most `light`, the spread by at most the share `contrast`."""
    grey = 0.4 + 0.2 * PHOTOS
    out = _augment(Augmentation(light=0.1, contrast=0.2), images=grey)
    means = out.mean((1, 2, 3)) - grey.mean((1, 2, 3))
    spreads = out.std((1, 2, 3)) / grey.std((1, 2, 3)) - 1
    for found, most in ((means, 0.1), (spreads, 0.2)):
        assert 0.8 * most < np.abs(found).max() < 1.01 * most


def test_a_drawing_of_another_size_is_moved_in_proportion():
    """A shift of an image half as large is half as long, about the same middle."""
    bar = np.zeros((100, 14, 14, 1), np.float32)
    bar[:, 5:9, 6:8] = 1.0
    out = _augment(Augmentation(shift=2, rotation=5), images=bar)[..., 0]
    right = (out.sum(1) * np.arange(14)).sum(1) / out.sum((1, 2)) - 6.5
    assert 0.8 < np.abs(right).max() <= 1.05

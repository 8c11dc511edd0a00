"""Slices of a test set."""

from __future__ import annotations

import dataclasses

import numpy as np

from digits.data.dataset import Dataset
from digits.data.preprocessing import stroke_width
from digits.evaluation.slices import _strokes, slices
from digits.tasks.task import find
from tests.helpers.drawings import draw

DIGITS = find("digits")
SLANTS = np.linspace(-0.4, 0.4, 9)


def lines() -> np.ndarray:
    """Return a line of each slant, with two widths."""
    drawn = [draw([[(0.5 - s / 3, 0.8), (0.5 + s / 3, 0.2)]], side=28, pen=pen) for pen in (2, 4) for s in SLANTS]
    return np.array(drawn)


def test_the_thirds_follow_slant_width_and_ink() -> None:
    """Lines that lean are in the thirds that their names state, of each digit; thick ones have much ink."""
    images = lines()
    found = slices(Dataset(images, np.repeat([1, 7], 9).astype(np.uint8)), DIGITS)
    by_digit = found["7s leaning right"], found["1s leaning left"]
    assert [np.flatnonzero(mask).tolist() for mask in by_digit] == [[15, 16, 17], [0, 1, 2]]
    assert found["leaning right"].sum() == found["upright"].sum() == found["thin strokes"].sum() == 6
    assert found["1s"].sum() == 9
    assert "2s" not in found
    assert np.flatnonzero(slices(Dataset(images, np.ones(18, np.uint8)), DIGITS)["much ink"]).min() >= 9


def test_the_properties_are_those_of_the_strokes() -> None:
    """The slant is that of the line, and the width that of the preprocessing."""
    found = _strokes(lines())
    assert np.allclose(found["slant"], np.tile(SLANTS / 0.9, 2), atol=0.08)
    assert np.allclose(found["stroke"], [stroke_width(image) for image in lines()], rtol=1e-3)


def test_an_image_without_ink_has_a_slice() -> None:
    """Blank images and a single image are in one slice each, without a division by zero."""
    found = slices(Dataset(np.zeros((2, 28, 28), np.uint8), np.array([3, 4], np.uint8)), DIGITS)
    assert found["3s"].tolist() == [True, False]


def test_photos_are_in_thirds_by_brightness() -> None:
    """A photo is in the slice of its class and in a third of the class by brightness."""
    images = np.repeat(np.arange(12, dtype=np.uint8) * 20, 8 * 8 * 3).reshape(12, 8, 8, 3)
    task = dataclasses.replace(find("fashion"), labels=("rose", "tulip"), height=8, width=8, channels=3)
    found = slices(Dataset(images, np.repeat([0, 1], 6).astype(np.uint8)), task)
    assert {name: np.flatnonzero(mask).tolist() for name, mask in found.items()} == {
        '"rose"': [0, 1, 2, 3, 4, 5],
        '"tulip"': [6, 7, 8, 9, 10, 11],
        "dark pictures": [0, 1, 6, 7],
        "medium pictures": [2, 3, 8, 9],
        "bright pictures": [4, 5, 10, 11],
    }


def test_drawings_of_other_sizes_have_slices() -> None:
    """Drawings that are not square are in the slices of their label and of its thirds by slant."""
    task = dataclasses.replace(find("digits"), labels=("A", "B"), height=9, width=14)
    images = np.random.default_rng(0).integers(0, 256, (6, 9, 14), np.uint8)
    found = slices(Dataset(images, np.zeros(6, np.uint8)), task)
    assert found['"A"'].all()
    assert found['"A" upright'].sum() == 2

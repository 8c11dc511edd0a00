"""MNIST's preprocessing of drawings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from digits.data.preprocessing import Ink, stroke_width, to_mnist
from tests.helpers.drawings import ONE, SEVEN, draw, similarity


@settings(max_examples=150, deadline=None)
@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=60), elements=st.integers(0, 255)))
def test_any_ink_becomes_an_image(ink: Ink) -> None:
    """For any ink the result is uint8 (28, 28); it is empty only if there was no ink."""
    before = ink.copy()
    image = to_mnist(ink)
    assert (image.shape, image.dtype) == ((28, 28), np.uint8)
    assert image.any() or ink.max() < 128
    assert not image.any() or ink.any()
    assert np.array_equal(ink, before)


@settings(max_examples=40, deadline=None)
@given(pen=st.floats(4, 24), size=st.floats(0.4, 0.9), x=st.floats(0.05, 0.1), y=st.floats(0.05, 0.1))
def test_the_digit_fills_the_box_in_the_middle(pen: float, size: float, x: float, y: float) -> None:
    """For any pen, size and position, the longer side is 20 pixels and the centre of mass is in the middle."""
    image = to_mnist(draw(SEVEN, pen=pen, size=size, at=(x, y)))
    rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    mass = image.astype(float)
    for axis in (0, 1):
        middle = mass.sum(axis) @ np.arange(28) / mass.sum()
        assert abs(middle - 14) <= 0.5


@pytest.mark.parametrize("side", [140, 560, 1000])
def test_resolution_does_not_matter(side: int) -> None:
    """The same drawing at a low and at a high resolution gives nearly the same image."""
    assert similarity(to_mnist(draw(SEVEN, side=side, pen=side / 20)), to_mnist(draw(SEVEN))) > 0.98


@pytest.mark.parametrize("pen", [2, 5, 10, 20, 30])
def test_the_pen_does_not_matter(pen: float) -> None:
    """Strokes become about as wide as MNIST's for every width of the pen."""
    image = to_mnist(draw(SEVEN, pen=pen))
    assert 1.9 <= stroke_width(image) <= 3.1
    assert similarity(image, to_mnist(draw(SEVEN, pen=14))) > 0.85


def test_scaling_alone_leaves_thin_strokes() -> None:
    """Without the adjustment, a thin pen's strokes are far thinner than MNIST's."""
    thin = Image.fromarray(draw(SEVEN, pen=3)).resize((28, 28), Image.Resampling.BOX)
    assert stroke_width(np.asarray(thin)) < 1.5


def test_an_image_in_mnists_form_is_unchanged() -> None:
    """An image that has MNIST's form already is returned unchanged."""
    image = to_mnist(draw(SEVEN))
    assert np.array_equal(to_mnist(image), image)


def test_the_aspect_ratio_is_kept() -> None:
    """A narrow digit stays narrow."""
    image = to_mnist(draw(ONE))
    assert np.ptp(np.flatnonzero(image.any(0))) < 5


def test_a_dot_is_a_drawing() -> None:
    """A single touch of the pen gives an image with ink."""
    ink = np.zeros((280, 280), np.uint8)
    ink[100:110, 100:110] = 255
    assert to_mnist(ink).any()

"""Pictures made from labelled images."""

from __future__ import annotations

import numpy as np

from digits.data.dataset import Dataset
from digits.evaluation.variations import vary
from tests.helpers.drawings import SEVEN, draw


def test_each_picture_differs_and_is_reproducible() -> None:
    """The same image gives different pictures of the same digit, the same ones each time, and an empty one stays so."""
    image = np.asarray(draw(SEVEN, side=28, pen=2))[None].repeat(4, axis=0)
    image[3] = 0
    dataset = Dataset(image, np.array([7, 7, 7, 0], np.uint8))
    made = vary(dataset)
    assert (made.labels == dataset.labels).all()
    assert len(np.unique(made.images, axis=0)) == 4
    assert made.images[:3].max(axis=(1, 2)).min() > 200
    assert not made.images[3].any()
    assert (vary(dataset).images == made.images).all()

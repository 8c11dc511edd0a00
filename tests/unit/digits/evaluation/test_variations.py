"""Pictures made from labelled images."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from digits.data.dataset import Dataset
from digits.evaluation.variations import vary
from digits.tasks.task import find
from tests.helpers.drawings import SEVEN, draw

DIGITS = find("digits")


def test_each_picture_differs_and_is_reproducible() -> None:
    """The same image gives different pictures of the same digit, the same ones each time, and an empty one stays so."""
    image = np.asarray(draw(SEVEN, side=28, pen=2))[None].repeat(4, axis=0)
    image[3] = 0
    dataset = Dataset(image, np.array([7, 7, 7, 0], np.uint8))
    made = vary(dataset, DIGITS)
    assert (made.labels == dataset.labels).all()
    assert len(np.unique(made.images, axis=0)) == 4
    assert made.images[:3].max(axis=(1, 2)).min() > 200
    assert not made.images[3].any()
    assert (vary(dataset, DIGITS).images == made.images).all()


@pytest.mark.parametrize(("reading", "channels"), [("pen", 1), ("photo", 1), ("photo", 3)])
def test_pictures_are_made_for_every_task(reading: str, channels: int) -> None:
    """A picture has the shape of the task, differs from the image, and still resembles it most."""
    task = dataclasses.replace(DIGITS, height=14, width=20, channels=channels, reading=reading)
    images = np.zeros((6, *task.shape), np.uint8)
    for n in range(6):
        images[n, 2 + n // 3 * 5 : 7 + n // 3 * 5, 3 + n % 3 * 5 : 8 + n % 3 * 5] = 200
    made = vary(Dataset(images, np.arange(6, dtype=np.uint8)), task)
    assert made.images.shape == images.shape
    assert all((one != other).any() for one, other in zip(made.images, images, strict=True))
    if reading == "photo":  # a drawing is centred, wherever it was
        flat, expected = (each.reshape(6, -1).astype(float) for each in (made.images, images))
        distances = np.abs(flat[:, None] - expected[None]).sum(axis=2)
        assert (distances.argmin(axis=1) == np.arange(6)).all()

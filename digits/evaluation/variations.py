"""Pictures as users make them, made from labelled images: slanted, turned, wider or narrower, and scanned in black."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from digits.data.dataset import Dataset, Images
from digits.data.preprocessing import FIELD, to_mnist

_SCALE = 2  # pixels of a picture per pixel of the image
_SIDE = 80  # pixels; a slanted digit has room
_SLANT = (-0.4, 0.5)  # range of the shift to the right per unit up
_TURN = (-0.3, 0.3)  # range in radians
_WIDTH = (0.8, 1.2)  # range of a factor
_LEVEL = (30, 200)  # range of the least ink, of 255, that the scan shows; it changes the width of the strokes, too


def vary(dataset: Dataset, seed: int = 0) -> Dataset:
    """Return a picture of each image, prepared for the model as the pictures of users are."""
    generator = np.random.default_rng(seed)
    images = [to_mnist(_scan(image, generator)) for image in dataset.images]
    return Dataset(np.array(images, np.uint8).reshape(-1, FIELD, FIELD), dataset.labels)


def _scan(image: Images, generator: np.random.Generator) -> NDArray[np.uint8]:
    slant, turn, width, level = (generator.uniform(*limits) for limits in (_SLANT, _TURN, _WIDTH, _LEVEL))
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    # The transformation leads from the picture to the image.
    matrix = rotation @ np.array([[1 / width, slant], [0, 1]]) / _SCALE
    shift = FIELD / 2 - matrix.sum(axis=1) * _SIDE / 2
    data = tuple(np.column_stack([matrix, shift]).ravel().tolist())
    picture = Image.fromarray(image).transform((_SIDE, _SIDE), Image.Transform.AFFINE, data, Image.Resampling.BICUBIC)
    ink = np.asarray(picture)
    return np.where(ink >= min(level, int(ink.max())), np.uint8(255), np.uint8(0)) * bool(ink.any())

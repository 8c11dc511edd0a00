"""Pictures as users make them, made from labelled images.

Drawings are slanted, turned, wider or narrower, and scanned in black. Photos are moved, blurred, lighter or darker, and
have noise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from digits.data.dataset import Dataset, Images
from digits.data.preprocessing import FIELD, to_mnist
from digits.data.reader import from_mnist
from digits.tasks.task import Task

_SCALE = 2  # pixels of a picture per pixel of the image
_SIDE = 80  # pixels; a slanted digit has room
_SLANT = (-0.4, 0.5)  # range of the shift to the right per unit up
_TURN = (-0.3, 0.3)  # range in radians
_WIDTH = (0.8, 1.2)  # range of a factor
_LEVEL = (30, 200)  # range of the least ink, of 255, that the scan shows; it changes the width of the strokes, too

_SHIFT = 0.06  # greatest shift in each direction, as a share of the side
_BLUR = (0.0, 0.02)  # range of the radius, as a share of the shorter side
_LIGHT = (0.75, 1.25)  # range of a factor
_NOISE = (0.0, 8.0)  # range of the standard deviation, of 255


def vary(dataset: Dataset, task: Task, seed: int = 0) -> Dataset:
    """Return a picture of each image, prepared for the model as the pictures of users are."""
    generator = np.random.default_rng(seed)
    if task.reading == "photo":
        images = [_photograph(image, generator) for image in dataset.images]
    else:
        images = [from_mnist(task, to_mnist(_scan(_square(image), generator))) for image in dataset.images]
    return Dataset(np.array(images, np.uint8).reshape(-1, *task.shape), dataset.labels)


def _photograph(image: Images, generator: np.random.Generator) -> Images:
    """Return a photo moved, blurred, in another light and with the noise of a camera."""
    height, width = image.shape[:2]
    right, down = (generator.uniform(-_SHIFT, _SHIFT, 2) * (width, height)).tolist()
    picture = Image.fromarray(np.pad(image, [(height, height), (width, width), (0, 0)][: image.ndim], "edge"))
    picture = picture.filter(ImageFilter.GaussianBlur(generator.uniform(*_BLUR) * min(height, width)))
    frame = (width + right, height + down, 2 * width + right, 2 * height + down)
    moved = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, frame))
    noise = generator.normal(0, generator.uniform(*_NOISE), image.shape)
    return np.clip(moved * generator.uniform(*_LIGHT) + noise, 0, 255).round().astype(np.uint8)


def _square(image: Images) -> Images:
    """Return the middle of a drawing, as large as MNIST's images."""
    height, width = image.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    middle = image[top : top + side, left : left + side]
    return middle if side == FIELD else np.asarray(Image.fromarray(middle).resize((FIELD, FIELD)))


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

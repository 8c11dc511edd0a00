"""The model's input from a picture, as the task declares it. The page, `digits predict` and data sets share this."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from digits.data.dataset import Dataset
from digits.data.number import INK_SIDE, Digit, split
from digits.data.pictures import FORMATS, MAX_PIXELS, on_white, open_picture, read_ink
from digits.data.preprocessing import FIELD, Ink, crop, to_mnist
from digits.tasks.task import Task

_DRAWING = 80  # pixels of the shorter side to which an image is enlarged before its ink is centred


def read_images(
    task: Task, picture: Path | IO[bytes], *, formats: tuple[str, ...] = FORMATS, max_pixels: int = MAX_PIXELS
) -> list[Digit]:
    """Return what a picture shows. The `image` of each item has the task's shape.

    For a task whose classes are the ten digits, these are the digits of a number, from left to right. Otherwise it is
    one item for the whole picture. A pen picture without ink gives none. In a photo, what is outside the task's aspect
    ratio is cut off on both sides; `box` is the rest, and `ink` is a small picture of it, grey or (height, width, 3).

    Raises:
        DataError: the picture cannot be read, or has too many pixels.
    """
    if task.reading == "photo":
        photo = _open_photo(task, picture, formats, max_pixels)
        box = _middle(task, photo)
        left, top, right, bottom = box
        shown = (left / photo.width, top / photo.height, right / photo.width, bottom / photo.height)
        return [Digit(_scale(task, photo, box), _small(_channels(task, photo.crop(box))), shown)]
    ink, doubtful = read_ink(picture, formats=formats, max_pixels=max_pixels, digits=task.is_number)
    if task.is_number:
        return [_fit(task, digit) for digit in split(ink, doubtful=doubtful)]
    if not ink.any():
        return []
    return [Digit(from_mnist(task, to_mnist(ink)), _small(Image.fromarray(crop(ink))), doubtful=doubtful)]


def read_image(task: Task, picture: Path | IO[bytes]) -> Ink | None:
    """Return the picture of a data set as one image of the task's shape; None for a pen picture without ink.

    A number is one image, too. Raises as `read_images`.
    """
    if task.reading == "photo":
        photo = _open_photo(task, picture, FORMATS, MAX_PIXELS)
        return _scale(task, photo, _middle(task, photo))
    ink, _ = read_ink(picture, digits=task.is_number)
    return from_mnist(task, to_mnist(ink)) if ink.any() else None


def _fit(task: Task, digit: Digit) -> Digit:
    """Return a digit and its pieces with images of the task's shape."""
    ways = tuple(tuple(_fit(task, piece) for piece in way) for way in digit.ways)
    return digit._replace(image=from_mnist(task, digit.image), ways=ways)


def from_mnist(task: Task, image: Ink) -> Ink:
    """Return an image in MNIST's form, scaled to the shorter side of the task's images, in the middle of the paper."""
    if task.shape == image.shape:
        return image
    side = min(task.shape)
    if side < FIELD // 2:  # all pixels are needed for the strokes; MNIST's outermost two are almost always blank
        image = image[2:-2, 2:-2]
    scaled = Image.fromarray(image).resize(
        (side, side), Image.Resampling.LANCZOS if side < FIELD else Image.Resampling.BICUBIC
    )
    field = np.zeros(task.shape, np.uint8)
    top, left = (task.height - side) // 2, (task.width - side) // 2
    field[top : top + side, left : left + side] = np.asarray(scaled)
    return field


def as_drawings(task: Task, dataset: Dataset) -> Dataset:
    """Return the images of a pen task, which any program may have made, as if they had been read from pictures.

    A drawing on the page would otherwise have another size within its image than those that the model learnt. Images of
    28 x 28 pixels are MNIST's or were made like them, and stay as they are.
    """
    if task.reading != "pen" or task.shape == (FIELD, FIELD):
        return dataset
    factor = max(1, round(_DRAWING / min(task.shape)))
    size = (factor * task.width, factor * task.height)
    enlarged = (Image.fromarray(image).resize(size, Image.Resampling.BICUBIC) for image in dataset.images)
    images = [from_mnist(task, to_mnist(np.asarray(each))) for each in enlarged]
    return Dataset(np.array(images, np.uint8).reshape(-1, *task.shape), dataset.labels)


def _open_photo(task: Task, picture: Path | IO[bytes], formats: tuple[str, ...], max_pixels: int) -> Image.Image:
    side = max(2 * INK_SIDE, 4 * max(task.height, task.width))  # more pixels would not be seen
    return on_white(open_picture(picture, formats=formats, max_pixels=max_pixels, side=side))


def _middle(task: Task, photo: Image.Image) -> tuple[int, int, int, int]:
    """Return the left, top, right and bottom of the middle of a photo that has the task's aspect ratio."""
    width = min(photo.width, max(1, round(photo.height * task.width / task.height)))
    height = min(photo.height, max(1, round(photo.width * task.height / task.width)))
    left, top = (photo.width - width) // 2, (photo.height - height) // 2
    return left, top, left + width, top + height


def _scale(task: Task, photo: Image.Image, box: tuple[int, int, int, int]) -> Ink:
    """Return a part of a photo as an image of the task's size."""
    size = (task.width, task.height)
    return np.array(_channels(task, photo.resize(size, Image.Resampling.LANCZOS, box, reducing_gap=3)))


def _channels(task: Task, picture: Image.Image) -> Image.Image:
    return picture.convert("L" if task.channels == 1 else "RGB")


def _small(picture: Image.Image) -> Ink:
    """Return a picture reduced to INK_SIDE."""
    picture.thumbnail((INK_SIDE, INK_SIDE))
    return np.array(picture)

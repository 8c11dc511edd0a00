"""The model's input from a picture, as the task declares it. The page, `digits predict` and data sets share this."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from digits.data.number import INK_SIDE, Digit, split
from digits.data.pictures import FORMATS, MAX_PIXELS, on_white, open_picture, read_ink
from digits.data.preprocessing import FIELD, Ink, crop, to_mnist
from digits.tasks.task import Task


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
        return [_photo(task, on_white(open_picture(picture, formats=formats, max_pixels=max_pixels)))]
    ink, doubtful = read_ink(picture, formats=formats, max_pixels=max_pixels, digits=task.is_number)
    if task.is_number:
        return [digit._replace(image=from_mnist(task, digit.image)) for digit in split(ink, doubtful=doubtful)]
    return (
        [Digit(from_mnist(task, to_mnist(ink)), _small(Image.fromarray(crop(ink))), doubtful=doubtful)]
        if ink.any()
        else []
    )


def read_image(task: Task, picture: Path | IO[bytes]) -> Ink | None:
    """Return the picture of a data set as one image of the task's shape; None for a pen picture without ink.

    A number is one image, too. Raises as `read_images`.
    """
    if task.reading == "photo":
        return read_images(task, picture)[0].image
    ink, _ = read_ink(picture, digits=task.is_number)
    return from_mnist(task, to_mnist(ink)) if ink.any() else None


def from_mnist(task: Task, image: Ink) -> Ink:
    """Return an image in MNIST's form, scaled to the shorter side of the task's images, in the middle of the paper."""
    if task.shape == image.shape:
        return image
    side = min(task.shape)
    scaled = Image.fromarray(image).resize(
        (side, side), Image.Resampling.LANCZOS if side < FIELD else Image.Resampling.BICUBIC
    )
    field = np.zeros(task.shape, np.uint8)
    top, left = (task.height - side) // 2, (task.width - side) // 2
    field[top : top + side, left : left + side] = np.asarray(scaled)
    return field


def _photo(task: Task, picture: Image.Image) -> Digit:
    """Return the middle of a photo, of the task's aspect ratio, scaled to the task's size."""
    width = min(picture.width, max(1, round(picture.height * task.width / task.height)))
    height = min(picture.height, max(1, round(picture.width * task.height / task.width)))
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    middle = picture.crop((left, top, left + width, top + height)).convert("L" if task.channels == 1 else "RGB")
    image = np.array(middle.resize((task.width, task.height), Image.Resampling.LANCZOS))
    box = (left / picture.width, top / picture.height, (left + width) / picture.width, (top + height) / picture.height)
    return Digit(image, _small(middle), box)


def _small(picture: Image.Image) -> Ink:
    """Return a picture reduced to INK_SIDE."""
    picture.thumbnail((INK_SIDE, INK_SIDE))
    return np.array(picture)

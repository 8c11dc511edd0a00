"""The inputs of `digits predict`: picture files, and test images by number."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

import click

from digits import homes
from digits.data.number import Digit
from digits.data.reader import read_images
from digits.errors import DataError, UsageError
from digits.files import read_named
from digits.settings import Settings
from digits.tasks.task import Task

MAX_BYTES = 160_000_000  # of a picture file: the most pixels, uncompressed, with four channels of 16 bits


@dataclass(frozen=True)
class Picture:
    """A picture to recognise: its name, its digits from left to right, or itself, and its class."""

    name: str
    digits: list[Digit]
    label: int | None = None


def is_number(name: str) -> bool:
    """Return whether `name` is the number of a test image rather than a file."""
    return name.isdecimal() and len(name) < 10 and not os.path.exists(name)  # noqa: PTH110 # raises no OSError


def read_file(name: str) -> bytes:
    """Read a file, pipe or device. Raises UsageError if it cannot be read."""
    try:
        return read_named(Path(name), MAX_BYTES)
    except OSError as exc:
        raise UsageError(
            f"cannot read {name!r}: {exc.strerror}", remedy="give a picture file, or the number of a test image"
        ) from exc


def read_picture(task: Task, name: str, content: bytes) -> Picture:
    """Return a picture file as the task's images. Raises DataError if it is not a picture."""
    try:
        return Picture(name, read_images(task, io.BytesIO(content)))
    except DataError as exc:
        raise DataError(f"{name}: {exc.message}", remedy=exc.remedy) from exc


def load_test_images(settings: Settings, endpoint: str, numbers: list[str]) -> dict[str, Picture]:
    """Return {number: test image} of the data set that the endpoint's release was trained on.

    Raises:
        UsageError: the data set has fewer test images.
    """
    from digits.data import fetch

    if not numbers:
        return {}
    homes.claim(settings.home)
    task = settings.declaration
    dataset = fetch.fetch(task, _find_dataset(settings, endpoint), fetch.open_place(settings), settings.home / "data")
    if dataset.name not in {"mnist", task.name}:
        click.echo(f"test images of {dataset.name}, not of MNIST", err=True)
    images, labels = dataset.test.images, dataset.test.labels
    pictures = {}
    for number in numbers:
        index = int(number)
        if index >= len(labels):
            raise UsageError(f"expected a test image of {dataset.name} from 0 to {len(labels) - 1}, got {number}")
        image, label = images[index], int(labels[index])
        pictures[number] = Picture(f"test image {number}", [Digit(image, image)], label)
    return pictures


def _find_dataset(settings: Settings, endpoint: str) -> str:
    """Return the data set that the endpoint's release was trained on; "auto" if it does not report one that we know."""
    from digits.data import catalog
    from digits.serving import client

    name = client.metadata(endpoint, settings).get("dataset")
    return str(name) if name in catalog.names() else catalog.AUTO

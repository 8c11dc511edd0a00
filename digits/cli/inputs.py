"""The inputs of `digits predict`: picture files, and test images by number."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from digits import homes
from digits.data.dataset import Dataset
from digits.data.number import Digit
from digits.data.reader import read_images
from digits.errors import DataError, UsageError, one_line
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


def check_names(names: Sequence[str]) -> None:
    """Raise UsageError if none of the names is a file, or the number of a test image."""
    if not any(is_number(name) or os.path.exists(name) for name in names):  # noqa: PTH110 # raises no OSError
        read_file(names[0])  # raises


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
        raise DataError(f"{one_line(name)}: {exc.message}", remedy=exc.remedy) from exc


@dataclass(frozen=True)
class NumberedImages:
    """The test images of a data set, and its name."""

    name: str
    test: Dataset

    def picture(self, number: str) -> Picture:
        """Return a test image. Raises UsageError if there is none of that number."""
        index, images, labels = int(number), self.test.images, self.test.labels
        if index >= len(labels):
            raise UsageError(f"expected a test image of {self.name} from 0 to {len(labels) - 1}, got {number}")
        return Picture(f"test image {number}", [Digit(images[index], images[index])], int(labels[index]))


def load_test_images(settings: Settings, endpoint: str, served: Task) -> NumberedImages:
    """Return the test images of the data set that the endpoint's release was trained on, which is of the task `served`.

    Raises:
        UsageError: the declared task has other images or labels.
    """
    from digits.data import fetch

    task = settings.declaration
    if (served.shape, served.labels) != (task.shape, task.labels):
        raise UsageError(
            f"the endpoint's release has other images or labels than the task {task.name}, whose test images have "
            "numbers",
            remedy="give picture files, or run the task again: digits run",
        )
    homes.claim(settings.home)
    dataset = fetch.fetch(task, _find_dataset(settings, endpoint), fetch.open_place(settings), settings.home / "data")
    if dataset.name not in {"mnist", task.name}:
        click.echo(f"test images of {dataset.name}, not of MNIST", err=True)
    return NumberedImages(dataset.name, dataset.test)


def _find_dataset(settings: Settings, endpoint: str) -> str:
    """Return the data set that the endpoint's release was trained on; "auto" if it does not report one that we know."""
    from digits.data import catalog
    from digits.serving import client

    name = client.metadata(endpoint, settings).get("dataset")
    return str(name) if name in catalog.names() else catalog.AUTO

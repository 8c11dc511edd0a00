"""The inputs of `digits predict`: picture files, and test images by number."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from digits import homes
from digits.data.number import Digit, read_number
from digits.errors import EndpointError, UsageError
from digits.settings import Settings


@dataclass(frozen=True)
class Picture:
    """A picture to recognise: its name, its digits from left to right, and its label."""

    name: str
    digits: list[Digit]
    label: int | None = None


def is_number(name: str) -> bool:
    """Return whether `name` is the number of a test image rather than a file."""
    return name.isdecimal() and not Path(name).exists()


def read_file(name: str) -> Picture:
    """Read a picture file.

    Raises:
        UsageError: there is no such file, or it is not a picture.
    """
    if not Path(name).is_file():
        raise UsageError(f"no file {name!r}", remedy="give a picture file, or the number of a test image")
    return Picture(name, read_number(Path(name)))


def load_test_images(settings: Settings, endpoint: str, numbers: list[str]) -> dict[str, Picture]:
    """Return {number: test image} of the data set that the endpoint's release was trained on.

    Raises:
        UsageError: the data set has fewer test images.
    """
    from digits.data import fetch

    if not numbers:
        return {}
    homes.claim(settings.home)
    dataset = fetch.fetch(_find_dataset(settings, endpoint), fetch.open_place(settings), settings.home / "data")
    if dataset.name != "mnist":
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
    from digits.http import base_url, request_json

    try:
        metadata = request_json(f"{base_url(endpoint)}/v2/models/digits", token=settings.endpoint_token)
        name = metadata["parameters"]["dataset"]
        return str(name) if name in (*catalog.SOURCES, catalog.FALLBACK) else catalog.AUTO
    except OSError as exc:
        raise EndpointError(str(exc), remedy="digits up, or digits doctor") from exc
    except (KeyError, TypeError, ValueError):
        return catalog.AUTO

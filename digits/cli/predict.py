"""`digits predict`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click
import numpy as np

from digits.cli import emit
from digits.data import Images
from digits.errors import EndpointError, UsageError
from digits.settings import BACKENDS, Settings

BLOCKS = " ▀▄█"


@click.command()
@click.argument("pictures", nargs=-1, required=True)
@click.option("--endpoint", help="Address of the endpoint.  [the one that digits deployed]")
@click.option("--backend", type=click.Choice(BACKENDS), help="Whose endpoint.  [process]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def predict(pictures: tuple[str, ...], endpoint: str | None, backend: str | None, as_json: bool) -> None:
    """Recognise PICTURES: files of any picture format, or numbers of MNIST's test images.

    \b
    digits predict photo.png scan.jpg
    digits predict 0 1 2
    """
    from digits import client

    settings = Settings.load()
    settings = dataclasses.replace(settings, backend=backend) if backend else settings
    images = np.stack([_image(settings, picture) for picture in pictures])
    answer = client.predict(endpoint or _deployed(settings), images, token=settings.endpoint_token)
    rows: list[dict[str, Any]] = [
        {"picture": picture, "class": int(digit), "probabilities": [round(float(p), 6) for p in probabilities]}
        for picture, digit, probabilities in zip(pictures, answer.classes, answer.probabilities, strict=True)
    ]
    if as_json:
        emit({"predictions": rows, "release": answer.release})
        return
    for row, image in zip(rows, images, strict=True):
        click.echo(_drawn(image))
        likely = sorted(enumerate(row["probabilities"]), key=lambda pair: -pair[1])[:3]
        others = "   ".join(f"{digit}: {share:.2%}" for digit, share in likely)
        click.echo(f"{row['picture']} is a {click.style(str(row['class']), bold=True)}   ({others})\n")


def _image(settings: Settings, picture: str) -> Images:
    """uint8 (28, 28) of a picture file, or of an MNIST test image."""
    if picture.isdecimal() and not Path(picture).exists():
        from digits import mnist

        fetched = mnist.fetch(mnist.AUTO, mnist.place_of(settings), settings.home / "data")
        test = fetched.test
        if fetched.name == mnist.FALLBACK:
            click.echo("no MNIST: this is a test image of scikit-learn's digits", err=True)
        if int(picture) >= len(test):
            raise UsageError(f"{fetched.name} has test images 0 to {len(test) - 1}, got {picture}")
        chosen: Images = test.images[int(picture)]
        return chosen
    if not Path(picture).is_file():
        raise UsageError(f"no file {picture!r}", remedy="give a picture file, or the number of an MNIST test image")
    from digits.preprocessing import ink_of, to_mnist

    return to_mnist(ink_of(Path(picture)))


def _deployed(settings: Settings) -> str:
    from backends import open_backend

    backend = open_backend(settings)
    try:
        endpoint = backend.endpoint()
    finally:
        backend.close()
    if not endpoint:
        raise EndpointError("nothing is served yet", remedy="digits run, or --endpoint URL")
    return endpoint


def _drawn(image: Images) -> str:
    """The picture as 14 lines of half blocks."""
    dark = image > 96
    return "\n".join(
        "".join(BLOCKS[int(top) + 2 * int(bottom)] for top, bottom in zip(*dark[row : row + 2], strict=True)).rstrip()
        for row in range(0, 28, 2)
    )

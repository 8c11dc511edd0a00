"""`digits predict`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from digits.cli.common import emit, json_option
from digits.data.dataset import Images
from digits.data.pictures import read_ink
from digits.data.preprocessing import Ink, to_mnist
from digits.errors import EndpointError, UsageError
from digits.evaluation.verdict import Verdict, judge, with_article
from digits.settings import BACKENDS, Settings

BLOCKS = " ▀▄█"


@dataclass(frozen=True)
class Picture:
    """What is asked about: what it is called, its ink, as the model sees it, and what it is, if that is known."""

    name: str
    ink: Ink
    image: Images
    label: int | None = None


@click.command()
@click.argument("pictures", nargs=-1, required=True)
@click.option("--endpoint", help="Address of the endpoint.  [the one that digits deployed]")
@click.option("--backend", type=click.Choice(BACKENDS), help="Backend whose endpoint is asked.  [process]")
@json_option
def predict(pictures: tuple[str, ...], endpoint: str | None, backend: str | None, as_json: bool) -> None:
    """Recognise PICTURES: files of any picture format, or test images by number, of the served release's data set.

    \b
    digits predict photo.png scan.jpg
    digits predict 0 1 2
    """
    from digits.serving import client

    settings = Settings.load()
    settings = dataclasses.replace(settings, backend=backend) if backend else settings
    given = {picture: _file(picture) for picture in pictures if not _is_number(picture)}
    endpoint = endpoint or _deployed(settings)
    given |= _test_images(settings, endpoint, [picture for picture in pictures if picture not in given])
    asked = [given[picture] for picture in pictures]
    answer = client.predict(endpoint, np.stack([one.image for one in asked]), token=settings.endpoint_token)
    rows: list[dict[str, Any]] = []
    for picture, one, digit, shares in zip(pictures, asked, answer.classes, answer.probabilities, strict=True):
        verdict = judge(one.ink, shares)
        row = {
            "picture": picture,
            "class": None if verdict.state == "empty" else int(digit),
            "probabilities": [round(float(p), 6) for p in shares],
            "verdict": verdict.state,
        }
        rows.append(row if one.label is None else row | {"label": one.label})
        if not as_json:
            _show(one, verdict, row)
    if as_json:
        emit({"predictions": rows, "release": answer.release})


def _show(picture: Picture, verdict: Verdict, row: dict[str, Any]) -> None:
    if verdict.state == "empty":
        click.echo(f"{picture.name} is empty\n")
        return
    likely = sorted(enumerate(row["probabilities"]), key=lambda pair: -pair[1])[:3]
    others = "   ".join(f"{digit}: {share:.2%}" for digit, share in likely)
    doubt = verdict.text.removeprefix("Not sure: ").removesuffix(".")
    said = (
        f" is {with_article(row['class'])}" if verdict.state == "sure" else f": not sure: {doubt[0].lower()}{doubt[1:]}"
    )
    known = "" if picture.label is None else f" (label {picture.label})"
    click.echo(_drawn(picture.image))
    click.echo(f"{click.style(picture.name + said, bold=True)}{known}   ({others})\n")


def _is_number(picture: str) -> bool:
    return picture.isdecimal() and not Path(picture).exists()


def _file(picture: str) -> Picture:
    if not Path(picture).is_file():
        raise UsageError(f"no file {picture!r}", remedy="give a picture file, or the number of a test image")
    ink = read_ink(Path(picture))
    return Picture(picture, ink, to_mnist(ink))


def _test_images(settings: Settings, endpoint: str, numbers: list[str]) -> dict[str, Picture]:
    """Those of that number, of the data set that the served release learned from."""
    from digits.data import fetch

    if not numbers:
        return {}
    fetched = fetch.fetch(_dataset(settings, endpoint), fetch.place_of(settings), settings.home / "data")
    if fetched.name != "mnist":
        click.echo(f"test images of {fetched.name}, not of MNIST", err=True)
    images, labels = fetched.test.images, fetched.test.labels
    found = {}
    for number in numbers:
        if int(number) >= len(labels):
            raise UsageError(f"expected a test image of {fetched.name} from 0 to {len(labels) - 1}, got {number}")
        image = images[int(number)]
        found[number] = Picture(f"test image {number}", image, image, int(labels[int(number)]))
    return found


def _dataset(settings: Settings, endpoint: str) -> str:
    """What the endpoint says that its release learned from; "auto" where it says nothing."""
    from digits.data import catalog
    from digits.http import request_json

    try:
        about = request_json(f"{endpoint.rstrip('/')}/v2/models/digits", token=settings.endpoint_token)
        return str(about["parameters"]["dataset"])
    except OSError as exc:
        raise EndpointError(str(exc), remedy="digits up, or digits doctor") from exc
    except (KeyError, TypeError, ValueError):
        return catalog.AUTO


def _deployed(settings: Settings) -> str:
    from backends import open_backend
    from digits.release import ledger
    from digits.store import open_store

    backend = open_backend(settings)
    try:
        endpoint = backend.endpoint()
        champion = not endpoint and settings.backend == "process" and ledger.champion(open_store(backend.here()))
    finally:
        backend.close()
    if champion:
        raise EndpointError(
            f"nothing is served; the champion is {champion}",
            remedy="digits run, which serves it and takes what is done from the cache; or digits serve",
        )
    if not endpoint:
        raise EndpointError("nothing is served yet", remedy="digits run, or --endpoint URL")
    return endpoint


def _drawn(image: Images) -> str:
    """The picture as lines of half blocks, of two rows each; those without ink above and below are left out."""
    dark = image > 96
    lines = [
        "".join(BLOCKS[int(top) + 2 * int(bottom)] for top, bottom in zip(*dark[row : row + 2], strict=True)).rstrip()
        for row in range(0, 28, 2)
    ]
    return "\n".join(lines).strip("\n")

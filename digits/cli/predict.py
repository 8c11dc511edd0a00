"""`digits predict`."""

from __future__ import annotations

import contextlib
from typing import Any

import click
import numpy as np

from digits.cli.common import emit, json_option
from digits.cli.inputs import Picture, is_number, load_test_images, read_file
from digits.data.dataset import Images
from digits.errors import EndpointError
from digits.evaluation.verdict import Verdict, judge, with_article
from digits.settings import BACKENDS, Settings

BLOCKS = " ▀▄█"


@click.command()
@click.argument("pictures", nargs=-1, required=True)
@click.option("--endpoint", help="Address of the endpoint.  [the deployed one]")
@click.option("--backend", type=click.Choice(BACKENDS), help="Backend whose endpoint is used.  [process]")
@json_option
def predict(pictures: tuple[str, ...], endpoint: str | None, backend: str | None, as_json: bool) -> None:
    """Recognise PICTURES with the deployed model.

    A picture is a PNG, JPEG, GIF, BMP, WebP, TIFF or PPM file that shows one digit, or the number of a test image of
    the data set that the model was trained on. A photo or scan may show edges, rules, shadows and a table, too.

    \b
    digits predict photo.png scan.jpg
    digits predict 0 1 2
    """
    from digits.serving import client

    settings = Settings.load()
    settings = settings.with_backend(backend) if backend else settings
    inputs = {name: read_file(name) for name in pictures if not is_number(name)}
    endpoint = endpoint or _find_endpoint(settings)
    inputs |= load_test_images(settings, endpoint, [name for name in pictures if name not in inputs])
    ordered = [inputs[name] for name in pictures]
    answer = client.predict(endpoint, np.stack([picture.image for picture in ordered]), token=settings.endpoint_token)
    rows: list[dict[str, Any]] = []
    for name, picture, digit, shares in zip(pictures, ordered, answer.classes, answer.probabilities, strict=True):
        verdict = judge(picture.digits, shares, doubtful=picture.doubtful)
        row = {
            "picture": name,
            "class": None if verdict.state == "empty" else int(digit),
            "probabilities": [round(float(p), 6) for p in shares],
            "verdict": verdict.state,
        }
        rows.append(row if picture.label is None else row | {"label": picture.label})
        if not as_json:
            _show(picture, verdict, row)
    if as_json:
        emit({"predictions": rows, "release": answer.release})


def _show(picture: Picture, verdict: Verdict, row: dict[str, Any]) -> None:
    if verdict.state == "empty":
        click.echo(f"{picture.name} is empty\n")
        return
    likely = sorted(enumerate(row["probabilities"]), key=lambda pair: -pair[1])[:3]
    shares = "   ".join(f"{digit}: {share:.2%}" for digit, share in likely)
    if verdict.state == "sure":
        result = f" is {with_article(row['class'])}"
    else:
        doubt = verdict.text.removeprefix("Not sure: ").removesuffix(".")
        result = f": not sure: {doubt[0].lower()}{doubt[1:]}"
    label = "" if picture.label is None else f" (label {picture.label})"
    click.echo(_draw(picture.image))
    click.echo(f"{click.style(picture.name + result, bold=True)}{label}   ({shares})\n")


def _draw(image: Images) -> str:
    """Draw an image, uint8 (28, 28), with half blocks: two rows per line, without empty lines above and below."""
    dark = image > 96
    lines = [
        "".join(BLOCKS[int(top) + 2 * int(bottom)] for top, bottom in zip(*dark[row : row + 2], strict=True)).rstrip()
        for row in range(0, 28, 2)
    ]
    return "\n".join(lines).strip("\n")


def _find_endpoint(settings: Settings) -> str:
    """Return the address of the backend's endpoint.

    Raises:
        EndpointError: nothing is served.
    """
    from backends import open_backend
    from digits.release import ledger
    from digits.store import open_store

    with contextlib.closing(open_backend(settings)) as backend:
        if endpoint := backend.endpoint():
            return endpoint
        if settings.backend == "process" and (champion := ledger.champion(open_store(backend.host_settings()))):
            raise EndpointError(
                f"nothing is served; the champion is {champion}",
                remedy="digits run, which serves it and reuses cached steps; or digits serve",
            )
    raise EndpointError("nothing is served yet", remedy="digits run, or --endpoint URL")

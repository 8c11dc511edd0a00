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
from digits.evaluation.verdict import Verdict, is_sure, judge, with_article
from digits.settings import BACKENDS, Settings

BLOCKS = " ▀▄█"
_PER_LINE = 3  # digits of a number in 80 columns
_BLANK = np.zeros((28, 28), np.uint8)  # asks for the release if all pictures are empty


@click.command()
@click.argument("pictures", nargs=-1, required=True)
@click.option("--endpoint", help="Address of the endpoint.  [the deployed one]")
@click.option("--backend", type=click.Choice(BACKENDS), help="Backend whose endpoint is used.  [process]")
@json_option
def predict(pictures: tuple[str, ...], endpoint: str | None, backend: str | None, as_json: bool) -> None:
    """Recognise PICTURES with the deployed model.

    A picture is a PNG, JPEG, GIF, BMP, WebP, TIFF or PPM file that shows a digit or a number, or the number of a
    test image of the data set that the model was trained on. A photo or scan may show edges, rules, shadows and a
    table, too.

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
    images = [digit.image for picture in ordered for digit in picture.digits]
    answer = client.predict(endpoint, np.stack(images or [_BLANK]), token=settings.endpoint_token)
    rows, remaining = list[dict[str, Any]](), list(answer.probabilities)
    for name, picture in zip(pictures, ordered, strict=True):
        shares, remaining = remaining[: len(picture.digits)], remaining[len(picture.digits) :]
        verdict = judge(shares, [digit.doubtful for digit in picture.digits])
        row = _describe(name, picture, shares, verdict)
        rows.append(row)
        if not as_json:
            _show(picture, verdict, row)
    if as_json:
        emit({"predictions": rows, "release": answer.release})


def _describe(name: str, picture: Picture, shares: list[Any], verdict: Verdict) -> dict[str, Any]:
    """Return the answer for a picture. "class" and "probabilities" are those of a single digit."""
    digits = [
        {
            "class": int(each.argmax()),
            "probabilities": [round(float(p), 6) for p in each],
            "verdict": "sure" if is_sure(each, digit.doubtful) else "unsure",
            "box": [round(side, 4) for side in digit.box],
        }
        for digit, each in zip(picture.digits, shares, strict=True)
    ]
    single = digits[0] if len(digits) == 1 else {"class": None, "probabilities": None}
    row = {
        "picture": name,
        "class": single["class"],
        "number": "".join(str(digit["class"]) for digit in digits),
        "probabilities": single["probabilities"],
        "verdict": verdict.state,
        "digits": digits,
    }
    return row if picture.label is None else row | {"label": picture.label}


def _show(picture: Picture, verdict: Verdict, row: dict[str, Any]) -> None:
    if verdict.state == "empty":
        click.echo(f"{picture.name} is empty\n")
        return
    drawn = [_draw(digit.image) for digit in picture.digits]
    if len(drawn) == 1:
        likely = sorted(enumerate(row["probabilities"]), key=lambda pair: -pair[1])[:3]
        shares = "   (" + "   ".join(f"{digit}: {share:.2%}" for digit, share in likely) + ")"
    else:
        shares = ""
        marks = [
            f"{d['class']}{'' if d['verdict'] == 'sure' else '?'} {max(d['probabilities']):.0%}" for d in row["digits"]
        ]
        drawn = [[*lines, mark] for lines, mark in zip(drawn, marks, strict=True)]
    if verdict.state == "sure":
        result = f" is {with_article(row['class']) if len(drawn) == 1 else row['number']}"
    else:
        doubt = verdict.text.removeprefix("Not sure: ").removesuffix(".")
        result = f": not sure: {doubt[0].lower()}{doubt[1:]}"
    label = "" if picture.label is None else f" (label {picture.label})"
    for start in range(0, len(drawn), _PER_LINE):
        click.echo(_side_by_side(drawn[start : start + _PER_LINE]))
    click.echo(f"{click.style(picture.name + result, bold=True)}{label}{shares}\n")


def _side_by_side(pictures: list[list[str]]) -> str:
    """Return pictures of equally many lines next to each other, without their empty columns and lines."""
    margins = [min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0) for lines in pictures]
    cut = [
        [line[margin:] if line.strip() else "" for line in lines]
        for lines, margin in zip(pictures, margins, strict=True)
    ]
    widths = [max(map(len, lines)) for lines in cut]
    rows = zip(*cut, strict=True)
    joined = ["   ".join(line.ljust(width) for line, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(joined).strip("\n")


def _draw(image: Images) -> list[str]:
    """Return 14 lines that show an image, uint8 (28, 28), with half blocks."""
    dark = image > 96
    return [
        "".join(BLOCKS[int(top) + 2 * int(bottom)] for top, bottom in zip(*dark[row : row + 2], strict=True)).rstrip()
        for row in range(0, 28, 2)
    ]


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
